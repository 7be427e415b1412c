"""A problem that the intent classifier recognises surely is answered by its article, beside the rows that were named.

A head or a language model learnt tools from orders and questions about one's own data: of “my top-up
failed” it makes a list of transactions. On Banking77's test set (BANKLLM_BANKING77),

    python benchmarks/problems.py

measures how many messages get the article of their intent.
"""

from collections.abc import Sequence
from typing import TypeGuard

from bankllm.assistant.bank.knowledge import Found
from bankllm.assistant.facts import Facts, Question, ReadyCall
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.names import plain
from bankllm.assistant.understanding.spoken_names import SHORT
from bankllm.assistant.understanding.sum_wishes import SUMS

LOOK_UPS = frozenset(
    (
        "account_details",
        "balance",
        "card_status",
        "human_agent",
        "small_talk",
        "spending",
        "standing_orders",
        "transactions",
    )
)
UNNAMED = frozenset(("direction", "limit", "order", "reason"))
"""Arguments of a look-up that name nothing of the customer's."""
PAYMENTS = frozenset(("balance", "spending", "transactions"))
"""Look-ups that the head also takes questions about the bank for."""
BESIDE = {
    "card_status": (
        "card_about_to_expire",
        "card_arrival",
        "card_delivery",
        "card_linking",
        "card_not_working",
        "compromised_",
        "declined_card",
        "declined_cash",
        "pin_blocked",
        "virtual_card_not",
    ),
    "standing_orders": ("automatic_top_up", "direct_debit"),
}
"""Look-up → beginnings of the topics to which its rows answer, beside the article if something is wrong."""
DAYS = frozenset(("date", "date_from", "date_to"))
DATED = {"balance": "balance", "spending": "payments", "standing_orders": "regular", "transactions": "payments"}
"""Look-up of which days may only be those of a story → evidence that the message asks for it."""
GIVES_WAY: dict[str, tuple[str, ...]] = {
    "replace_card": ("everyday_credit_card", "getting_spare_card"),
    "set_limit": ("contactless_limit", "limits_overview", "transfer_limit"),
    "transfer": ("bill_pay", "gift_card_scam", "international_transfer", "money_mule", "payee_add", "scam_", "zelle"),
}
"""Acting tool → beginnings of the articles that are given instead of its question."""
EVIDENCE, HAS_COME = patterns("evidence"), patterns("routes")["has_come"]
ASKS = patterns("unused")["asks"]
WORDS = patterns("problems")
"""Tool → words without which a message does not ask for it; `shows`: how a request for rows begins; `wrong`: what a
problem says; `own`: words that ask for the customer's own data; see the file for the others."""
ROWS_ONLY = ("card_about_to_expire", "card_linking", "automatic_top_up", "direct_debit")
"""Beginnings of the topics of `BESIDE` of which rows are enough if nothing is wrong."""
FIRST = {"cancel_transfer": WORDS["made"], "lost_or_stolen_phone": WORDS["phone"]}
"""Topic → words with which its article stands before what acts, which is only a part of what is asked."""
TRANSFERS = ("beneficiary_not_allowed", "transfer_into_account")
"""Topics whose messages can order a transfer without naming an amount or a payee."""
ACTS = {
    "cancel_transfer": ("cancel_transfer",),
    "replace_card": (
        "card_about_to_expire",
        "card_arrival",
        "card_not_working",
        "lost_or_stolen_card",
        "replacement_card_reasons",
    ),
    "report_card": ("card_arrival", "compromised_card", "lost_or_stolen_card"),
    "set_limit": ("top_up_limits",),
    "unfreeze_card": ("card_not_working", "declined_card_payment", "lost_or_stolen_card"),
}
"""Acting tool → the only topics whose messages can ask for it."""


def on_topic(items: Sequence[ReadyCall | Question], topic: str, message: str) -> list[ReadyCall | Question]:
    """Return the items that a message about this topic can mean, and its article; unchanged if one of them acts."""
    own, tells = WORDS["own"].search(message), WORDS["wrong"].search(message) or WORDS["tells"].search(message)
    if any(item.tool == "knowledge" for item in items):  # one of several wishes, or the only one
        return [item for item in items if not (_is_unread(item) or (item.tool in PAYMENTS and tells and not own))]
    article = ReadyCall("knowledge", {"article": topic})
    kept = [item for item in items if _fits(item, topic, message)]
    if any(item.tool not in LOOK_UPS for item in kept):
        return [article, *items] if topic in FIRST and FIRST[topic].search(message) else list(items)
    rows_only = topic.startswith(ROWS_ONLY) and any(_is_beside(item, topic) for item in kept)
    shown = (kept and WORDS["shows"].match(message)) or (not tells and any(_names(item) for item in kept))
    if not tells and len({item.tool for item in items}) > 1:  # "my balance and last 2 transactions"
        shown = True
    if (shown and not any(map(_is_unread, items))) or (rows_only and not WORDS["wrong"].search(message)):
        return list(items)
    return kept if kept and topic == "receiving_money" and HAS_COME.search(message) else [*kept, article]


def names_nothing(items: Sequence[ReadyCall | Question], message: str) -> bool:
    """Whether all that was understood is one look-up of nothing that the customer has: it may ask about the bank."""
    if len(items) != 1 or not isinstance(items[0], ReadyCall) or WORDS["own"].search(message):
        return False
    return items[0].tool in PAYMENTS and not _named(items[0])


def evident(items: Sequence[ReadyCall | Question], message: str) -> list[ReadyCall | Question]:
    """Return the items, or a search for an article in place of look-ups that no word asks for.

    These are all look-ups of a question about what would happen, one look-up of all rows without a word for them, and
    beside a question sums of what a story only mentions: "I do her shopping. How do I do this properly?" A sentence
    with days, or with names of nobody the customer pays, asks for payments only if it has a word for them; a sentence
    that asks nothing does not name a merchant by a part of its name.
    """
    if any(item.tool == "knowledge" for item in items) and not WORDS["own"].search(message):
        items = [item for item in items if not (_is_row(item) and _named(item) == {"category"})]
    if items and WORDS["general_question"].search(message) and all(item.tool in LOOK_UPS for item in items):
        return [ReadyCall("knowledge", {"question": message})]
    if _are_unasked(items, message):
        return [ReadyCall("knowledge", {"question": message})]
    if len(items) != 1 or not isinstance(items[0], ReadyCall) or items[0].tool not in EVIDENCE:
        return list(items)
    narrowed = _named(items[0]) - DAYS or EVIDENCE[items[0].tool].search(message)
    return list(items) if narrowed else [ReadyCall("knowledge", {"question": message})]


def told(items: Sequence[ReadyCall | Question], found: Found, message: str) -> list[ReadyCall | Question]:
    """Return the items with the article that was found for the message; only the article if they do not fit it.

    Unchanged if they act, or if the message asks for what they are. An article that is not sure or not clear needs
    more: a message about a problem, or a name that is none of the customer's.
    """
    certain, wrong, own = found.sure and found.clear, WORDS["wrong"].search(message), WORDS["own"].search(message)
    knowledge = ReadyCall("knowledge", {"article": found.article} if found.sure else found.arguments)
    if not items:
        return [knowledge] if certain and not WORDS["leaves"].search(message) else []
    tells = WORDS["tells"].search(message) and not WORDS["shows"].match(message)
    if found.near and all(_yields(item, bool(tells), bool(own)) for item in items):
        return [knowledge]
    unread = all(map(_is_unread, items))
    unserved = WORDS["unserved"].match(message) and all(item.tool in LOOK_UPS for item in items)
    if unserved and (certain or unread):
        return [knowledge]
    if certain and all(map(_lacks_payee, items)) and not WORDS["transfers"].search(message):
        return [knowledge]
    item, words = items[0], WORDS.get(items[0].tool)
    asked = bool(words and words.search(message))
    if len(items) > 1 and not unread:
        return list(items)
    if item.tool not in LOOK_UPS or item.tool in ("human_agent", "small_talk"):
        gives_way = found.article.startswith(GIVES_WAY.get(item.tool, "\0"))
        if _is_bare_transfer(item) and WORDS["asks_bank"].match(message):
            return [knowledge]
        enough = certain or words or (isinstance(item, Question) and item.slot == "kind")
        return [knowledge] if enough and (gives_way or not asked) and _is_guess(item, found) else list(items)
    enough = certain or bool(wrong and item.tool == "transactions")
    enough = enough or (not own and bool(found.clear or wrong or unread))
    guessed = certain and words and not asked
    if not (enough and (tells or guessed or (unread and found.clear))):
        return list(items)
    if isinstance(item, Question) or unread or guessed:
        return [knowledge]
    named = _named(item) - DAYS
    beside = item.tool in BESIDE and not WORDS["general"].search(message)
    if named or asked or beside or (own and not words and not (wrong and certain)):
        return [item, knowledge] if certain or (wrong and not named) else list(items)
    return [knowledge]


def instead_of_freezing(items: Sequence[ReadyCall | Question], found: Found | None, message: str) -> str:
    """Return the article for a card that shall only refuse betting, or is another bank's; empty if there is none."""
    tools = {item.tool for item in items}
    if tools and tools <= {"freeze_card", "report_card", "replace_card", "card_status"}:
        if WORDS["other_bank"].search(message):
            return "other_bank_card"
        certain = found.article if found and found.sure and found.clear else ""
        if certain == "other_bank_card" or (certain == "gambling_block" and "freez" not in message.lower()):
            return certain
    return ""


def _yields(item: ReadyCall | Question, tells: bool, own: bool) -> bool:
    """Whether an article that is asked for in nearly these words is given instead."""
    if _is_bare_transfer(item):
        return True
    return item.tool in PAYMENTS | {"standing_orders"} and (
        tells or not (own or item.tool not in PAYMENTS or _names(item))
    )


def _is_guess(item: ReadyCall | Question, found: Found) -> bool:
    """Whether questions and reports about the bank are mistaken for this act, hand-over or small talk."""
    if isinstance(item, ReadyCall):
        return item.tool in WORDS or item.tool in LOOK_UPS
    if item.slot == "kind":
        return found.article != "lost_or_stolen_card"
    return item.tool in WORDS or found.article.startswith(GIVES_WAY.get(item.tool, "\0"))


def names_shop(items: Sequence[ReadyCall | Question | Facts], message: str) -> bool:
    """Whether a few words ask for payments to a merchant, whose name may mean something else: "just eat this month"."""
    return len(message.split()) < SHORT and all(
        isinstance(item, ReadyCall) and "merchant" in item.arguments for item in items
    )


def _fits(item: ReadyCall | Question, topic: str, message: str) -> bool:
    if item.tool not in LOOK_UPS:
        words = WORDS.get(item.tool)
        if isinstance(item, Question) and item.slot == "kind":
            return topic == "lost_or_stolen_card"
        if _is_bare_transfer(item) or (_lacks_payee(item) and not WORDS["transfers"].search(message)):
            return topic in TRANSFERS
        if WORDS["must"].search(message):
            return False
        return topic in ACTS.get(item.tool, (topic,)) and (words is None or bool(words.search(message)))
    return bool(_names(item) or WORDS["shows"].match(message) or _is_beside(item, topic))


def _is_bare_transfer(item: ReadyCall | Question) -> bool:
    return isinstance(item, Question) and item.tool == "transfer" and not item.call.keys() & {"amount", "to"}


def _lacks_payee(item: ReadyCall | Question) -> bool:
    """Whether a transfer has no payee, one who is not saved, or another part that is not possible."""
    lacks = _is_unread(item) if isinstance(item, ReadyCall) else item.slot == "to" or "to" not in item.call
    return item.tool == "transfer" and lacks


def _names(item: ReadyCall | Question) -> bool:
    return isinstance(item, ReadyCall) and not item.unread and bool(_named(item))


def _are_unasked(items: Sequence[ReadyCall | Question], message: str) -> bool:
    if len(message.split()) <= SHORT or not items:
        return False
    if all(map(_lacks_payee, items)) and not EVIDENCE["ordered"].search(message):
        return True
    ready = [item for item in items if isinstance(item, ReadyCall) and item.tool in DATED]
    if len(ready) < len(items) or any(EVIDENCE[DATED[item.tool]].search(message) for item in ready):
        return False
    rows = [item for item in ready if item.tool in SUMS or item.arguments.keys() & DAYS]
    said = {item.arguments["merchant"] for item in rows if "merchant" in item.arguments}
    parts = not ASKS.search(message) and not any(plain(name) in plain(message) for name in said)
    return any(not _named(item) - DAYS - ({"merchant"} if parts else set()) for item in rows)


def _is_row(item: ReadyCall | Question) -> TypeGuard[ReadyCall]:
    return isinstance(item, ReadyCall) and item.tool in PAYMENTS


def _named(item: ReadyCall) -> set[str]:
    """Return the arguments that name something of the customer's; "by card" names nothing."""
    return {name for name, value in item.arguments.items() if name not in UNNAMED and (name, value) != ("kind", "card")}


def _is_unread(item: ReadyCall | Question) -> bool:
    return isinstance(item, ReadyCall) and bool(item.unread)


def _is_beside(item: ReadyCall | Question, topic: str) -> bool:
    return topic.startswith(BESIDE.get(item.tool, ()))
