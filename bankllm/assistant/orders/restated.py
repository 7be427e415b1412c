"""Leave out of a message what only restates the action that waits for a yes: "yes, send the 120 euros to Zofia".

Each detail must be the proposed one, read by the same readers. Any other amount, day, name or word stays, so that the
closed lists of `actions.yes_no` do not take the rest for a yes.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import date

from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.actions.yes_no import is_no, is_yes, says_yes_to
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.amounts import amount
from bankllm.assistant.understanding.customer import ACCOUNT_KINDS
from bankllm.assistant.understanding.names import plain
from bankllm.assistant.understanding.periods import day
from bankllm.errors import UsageError

LONGEST = 120
"""Characters of the longest message that is compared."""
P = patterns("restated")
ORDERS = patterns("ordered_again")
"""Tool → words that order such an action, and are no correction of it as "make it" is."""
_ENDING = r"(?: ending(?: in| with)?)? ?"


def decision(message: str, waited: Proposal, today: date) -> str:
    """Return the message, or what is left of it without the restated action if only that is a yes or a no."""
    later = waited.arguments.get("date", "") > today.isoformat()
    if later and P["at_once"].search(message) and not is_no(message):
        return f"{message}?"  # "yes, now" is no yes to a later day
    compared = len(message) <= LONGEST and "?" not in message
    rest = without_restated(message, waited, today) if compared else message
    if yes := next((said for said in (message, rest) if says_yes_to(waited.tool, said)), ""):
        return yes
    if ordered_again(waited.tool, message):
        return "yes"
    if is_no(message):
        return message
    if refuses(message) or (P["drops"].search(message) and "?" not in message):
        return "no"
    return rest if is_no(rest) and not P["stops"].search(rest) else message  # "cancel the card" is no "cancel it"


def ordered_again(tool: str, message: str) -> bool:
    """Whether a message orders what waits, and says nothing else: "please do the transfer".

    An order that names whom or how much may have been sent twice.
    """
    order = ORDERS.get(tool)
    return bool(order and order.search(message) and is_yes(f"yes {order.sub(' ', message)}"))


def refuses(message: str) -> bool:
    """Whether a message says no and why, and wishes nothing else: "better not, Daniel would never forgive me"."""
    parts = [part for part in re.split(r"[,.;!]+", message) if part.strip()]
    declines = any(P["declines"].search(part) for part in (*parts[:1], *parts[-1:]))
    return declines and "?" not in message and not P["goes_on"].search(message) and any(map(is_no, parts))


def without_restated(message: str, waited: Proposal, today: date) -> str:
    text = unicodedata.normalize("NFKC", message).casefold().replace("’", "'")
    money = waited.arguments.get("amount_minor"), waited.arguments.get("currency")
    if waited.tool == "cancel_transfer" and (said := P["amount"].search(waited.text)):
        money = amount(said["value"]) or money
    if due := waited.arguments.get("date"):
        text = _left_out(P["day"], text, lambda words: _read_day(words, today) == date.fromisoformat(due))
    if money[0]:
        text = _left_out(P["amount"], text, lambda words: _is_money(words, money))
    for pattern in _names(waited):
        text = re.sub(rf"(?<![\w'-])(?:{pattern})(?![\w'-])", " ", text)
    text = " ".join(text.split())
    if verb := P.get(waited.tool):
        text = re.sub(rf"(?<![\w'-])(?:{verb.pattern})(?![\w'-])", " ", text)
    return " ".join(text.split())


def _left_out(pattern: re.Pattern[str], text: str, fits: Callable[[str], bool]) -> str:
    return pattern.sub(lambda match: " " if fits(match["value"].strip(" ,")) else match[0], text)


def _read_day(words: str, today: date) -> date | None:
    if P["now"].fullmatch(words):
        return today
    try:
        return day(words, today, future=True)
    except UsageError:
        return None


def _is_money(words: str, wanted: tuple[int | None, str | None]) -> bool:
    try:
        found = amount(words)
    except UsageError:
        return False
    return found is not None and found.amount_minor == wanted[0] and found.currency in (None, wanted[1])


def _names(waited: Proposal) -> Iterator[str]:
    """Yield patterns for the payee, the accounts and the card as the proposal's text names them."""
    sides = {"to": rf"(?:in)?to(?: {P['own'].pattern})? ", "from": rf"(?:from|out of|using)(?: {P['own'].pattern})? "}
    for side, before in sides.items() if waited.tool == "transfer" else ():
        if found := re.search(rf"\b{side} (your )?([^\n]+?) ending (\w+)", waited.text):
            own, name, last4 = found.groups()
            if forms := "|".join(_forms(name, last4, account=bool(own))):
                yield rf"{before}(?:{forms})" if own else rf"(?:(?:to|for) )?(?:my )?(?:{forms})"
    if waited.arguments.get("card_id") and (found := re.search(r"your ([^\n]+?) ending (\d{4})", waited.text)):
        first, *more = map(re.escape, plain(found[1]).split())
        named = rf"{first}(?: (?:{'|'.join(more)}))*" if more else first
        yield rf"(?:{P['own'].pattern} )?(?:{named}|card|one)(?: card| one)?(?:{_ENDING}{found[2]})?|{found[2]}"
    found = re.search(r"\bto ([^\n]+?)(?: on \d|, |$)", waited.text) if waited.tool == "cancel_transfer" else None
    if forms := "|".join(_forms(found[1], "", account=False)) if found else "":
        yield rf"(?:(?:to|for|with) )?(?:the )?(?:{forms})(?: one)?"


def _forms(name: str, last4: str, *, account: bool) -> Iterator[str]:
    """Yield how a customer names a payee or an account: whole, or by its first or last word; longest first."""
    words = plain(name).split()
    if not words or (not account and P["no_name"].search(" ".join(words))):
        return  # a payee called "Today": the word may mean the day
    whole = re.escape(name.casefold().replace("’", "'"))
    ending = rf"(?:{_ENDING}{re.escape(last4.casefold())})?" if last4 else ""
    yield rf"{whole}{ending}"
    yield rf"{' '.join(map(re.escape, words))}{ending}"
    single = words[:1] if account else [words[0], words[-1]]
    if account and words[0] in ACCOUNT_KINDS:
        yield rf"(?:{ACCOUNT_KINDS[words[0]].pattern}){ending}"
    after = "(?: account| acct| pot| one)?" if account else ""
    yield from (
        f"{re.escape(word)}{after}{ending}" for word in single if len(word) > 2 and not P["no_name"].search(word)
    )
