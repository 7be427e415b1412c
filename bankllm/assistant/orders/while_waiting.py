"""A question that is asked while an action waits for a yes, and a detail that is changed inside a sentence.

The question is about the kind of action (how long it takes, what it costs), or about earlier payments to the same
payee. The action is proposed again after the answer.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.bank.ledger import format_money
from bankllm.assistant.facts import ReadyCall
from bankllm.assistant.followups import asks
from bankllm.assistant.orders.waiting import Item
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.customer import CustomerView, accounts_named
from bankllm.assistant.understanding.orders import declines
from bankllm.assistant.understanding.readers import Ask, amount, day

P, DAY, MORE = patterns("while_waiting"), patterns("restated")["day"], patterns("waiting")["more"]
AT_ONCE = re.compile(r"today|now|right (?:now|away)|straight away", re.IGNORECASE)
TOPICS = {
    "transfer": patterns("topics_of_transfer"),
    "freeze_card": patterns("topics_of_freezing"),
    "order_id": patterns("topics_of_cancelling"),
    "report_card": patterns("topics_of_new_card"),
    "replace_card": patterns("topics_of_new_card"),
}
"""Tool, or argument of `cancel_transfer`, → article → words of a question about such an action that it answers."""


def topics(about: str, message: str) -> list[ReadyCall]:
    """Return the calls for the articles that answer a question about an action; empty if it asks something else.

    `about` is a key of `TOPICS`.
    """
    if not asks(message) or P["of_payments"].search(message):
        return []
    found = [article for article, words in TOPICS.get(about, {}).items() if words.search(message)]
    return [ReadyCall("knowledge", {"question": message, "article": article}) for article in found]


def about_payee(waited: Proposal, message: str, view: Callable[[], CustomerView]) -> str:
    """Return a question for other payments to the payee with the name in place of "her"; empty if it is another one."""
    payee_id, order = waited.arguments.get("payee_id"), P["order_to"].match(waited.text)
    text = P["opening"].sub("", message)
    if not (payee_id or order) or not asks(text) or not (P["of_payments"].search(text) or P["planned"].search(text)):
        return ""
    name = next((one.name for one in view().payees if one.payee_id == payee_id), order["name"] if order else "")
    text = P["compares"].sub("", text)
    named = P["payee"].sub(name, text)
    return P["the_one"].sub("payments ", named) if name and (named != text or name in text) else ""


def left_after(waited: Proposal, message: str, view: Callable[[], CustomerView]) -> str:
    """Return what the account has after the transfer that waits, if the message asks for it."""
    if waited.tool != "transfer" or not P["leaves"].search(message):
        return ""
    source = waited.arguments["from_account_id"]
    held = next((one for one in view().accounts if one.account_id == source), None)
    left = held and format_money(held.available_minor - waited.arguments["amount_minor"], held.currency)
    return f"After this transfer your {held.name} would have {left} available." if held else ""


def with_waiting(waited: Proposal, items: Sequence[Item], message: str) -> list[Item]:
    """Return the transfer that waits, and after it the one to somebody else that the message adds; else nothing."""
    one = items[0] if len(items) == 1 else None
    if not (isinstance(one, ReadyCall) and waited.tool == one.tool == "transfer" and P["adds"].search(message)):
        return []
    targets = [(call.get("payee_id"), call.get("to_account_id")) for call in (one.arguments, waited.arguments)]
    if one.unread or targets[0] == targets[1] or not P["added_amount"].search(message):
        return []
    kept = dict(one.arguments)
    if not DAY.search(message):  # a day of the messages before is that of the other transfer
        kept.pop("date", None)
        kept |= {"date": waited.arguments["date"]} if P["same_day"].search(message) else {}
    return [ReadyCall(waited.tool, waited.arguments), replace(one, arguments=kept)]


def changed_inside(waited: Proposal, message: str, view: Callable[[], CustomerView], today: date) -> ReadyCall | None:
    """Return the transfer that waits with the amount, account or day that a sentence changes: "call it fifty".

    None if the message is a question, or changes nothing that can be read.
    """
    if waited.tool != "transfer":
        return None
    if note := P["note"].search(message):
        kept = {name: value for name, value in waited.arguments.items() if name != "reference" or not _is_negated(note)}
        unwanted = _is_negated(note) or P["note_asked"].search(message[: note.start()])
        return ReadyCall("transfer", kept if unwanted else {**kept, "reference": note["value"].strip()})
    if "?" in message or P["another_order"].search(message) or declines(message):
        return None
    changed: dict[str, Any] = {}
    if (said := P["amount"].search(message)) and not (_is_negated(said) or MORE.search(message)):
        try:
            changed |= amount(said["value"], "amount_minor", view())
        except Ask:
            return None
    sources = [match["value"] for match in P["source"].finditer(message) if not _is_negated(match)]
    if sources and len(found := accounts_named(sources[-1], view().accounts)) == 1:
        changed["from_account_id"] = found[0].account_id
    if (later := P["day"].search(message)) and not P["event"].search(message) and not _is_negated(later):
        try:
            words = later["value"] or later["again"]
            changed |= {"date": today.isoformat()} if AT_ONCE.fullmatch(words) else day(words, today, future=True)
        except Ask:
            return None
    if changed.get("from_account_id") == waited.arguments.get("to_account_id", ""):
        return None
    kept = {name: value for name, value in waited.arguments.items() if name != "currency" or "currency" not in changed}
    return ReadyCall("transfer", {**kept, **changed}) if changed else None


def _is_negated(match: re.Match[str]) -> bool:
    """Whether a detail is one that the customer does not want: "not from my savings"."""
    return bool(P["negates"].search(match.string[: match.start()]))
