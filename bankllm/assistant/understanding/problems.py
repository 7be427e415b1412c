"""A problem that the intent classifier recognises surely is answered by its article, beside the rows that were named.

A head or a language model learnt tools from orders and questions about one's own data: of “my top-up
failed” it makes a list of transactions. On Banking77's test set (BANKLLM_BANKING77),

    python benchmarks/problems.py

measures how many messages get the article of their intent.
"""

from collections.abc import Sequence

from bankllm.assistant.facts import Facts, Question, ReadyCall
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.names import fitting
from bankllm.assistant.understanding.slots import SHORT

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
    "card_status": ("card_", "compromised_", "declined_card", "declined_cash", "pin_blocked", "virtual_card_not"),
    "standing_orders": ("automatic_top_up", "direct_debit"),
}
"""Look-up → beginnings of the topics to which its rows answer, beside the article if something is wrong."""
DAYS = frozenset(("date", "date_from", "date_to"))
DONE = frozenset(("cancel_transfer", "human_agent", "small_talk"))
"""Tools whose reply is not shown beside an article."""
TOLD = LOOK_UPS | DONE
"""Tools that a question about the bank is mistaken for."""
WORDS = patterns("problems")
"""Acting tool → words without which a problem does not ask for it; `shows`: how a request for rows begins;
`wrong`: what a problem says; `own`: words that ask for the customer's own data."""
ACTS = {
    "replace_card": (
        "card_about_to_expire",
        "card_arrival",
        "card_not_working",
        "lost_or_stolen_card",
        "replacement_card_reasons",
    ),
    "report_card": ("card_arrival", "compromised_card", "lost_or_stolen_card"),
    "set_limit": ("top_up_limits",),
}
"""Acting tool → the only topics whose messages can ask for it."""


def on_topic(items: Sequence[ReadyCall | Question], topic: str, message: str) -> list[ReadyCall | Question]:
    """Return the items that a message about this topic can mean, and its article; unchanged if one of them acts."""
    if any(item.tool == "knowledge" for item in items):  # one of several wishes, or the only one
        return [item for item in items if isinstance(item, Question) or not item.unread]
    kept = [item for item in items if _fits(item, topic, message)]
    acts = any(item.tool not in LOOK_UPS for item in kept)
    rows_only = any(_is_beside(item, topic) for item in kept) and not WORDS["wrong"].search(message)
    if acts or rows_only or (kept and WORDS["shows"].match(message)):
        return list(items)
    return [*kept, ReadyCall("knowledge", {"article": topic})]


def names_nothing(items: Sequence[ReadyCall | Question], message: str) -> bool:
    """Whether all that was understood is one look-up of nothing that the customer has: it may ask about the bank."""
    if len(items) != 1 or not isinstance(items[0], ReadyCall) or WORDS["own"].search(message):
        return False
    return items[0].tool in PAYMENTS and not items[0].arguments.keys() - UNNAMED


def told(
    items: Sequence[ReadyCall | Question], article: str, message: str, *, sure: bool = True, clear: bool = True
) -> list[ReadyCall | Question]:
    """Return the items with an article that fits the message; only the article if they do not fit it.

    Unchanged if they act, or if the message asks for what they are. An article that is not `sure` or not `clear`
    (`articles.Found`) needs more: a message about a problem, or a name that is none of the customer's.
    """
    certain, wrong = sure and clear, WORDS["wrong"].search(message)
    knowledge = ReadyCall("knowledge", {"article": article} if sure else {"article": article, "sure": False})
    if not items:
        return [knowledge] if certain and not WORDS["leaves"].search(message) else []
    item, words, own = items[0], WORDS.get(items[0].tool), WORDS["own"].search(message)
    tells = WORDS["tells"].search(message) and not WORDS["shows"].match(message)
    unread = all(isinstance(each, ReadyCall) and each.unread for each in items)
    if (len(items) > 1 and not unread) or not _guessed(item, article):
        return list(items)
    if item.tool in DONE:
        enough = certain or (item.tool == "cancel_transfer" and (clear or wrong))
        return [knowledge] if enough and not (words and words.search(message)) else list(items)
    if not certain and (own or not (clear or wrong or unread)):
        return list(items)
    if not tells and not (unread and clear):
        return list(items)
    if isinstance(item, Question) or unread:
        return [knowledge]
    named = item.arguments.keys() - UNNAMED - DAYS
    if named or (words.search(message) if words else own) or item.tool in BESIDE:
        return [item, knowledge] if certain or (wrong and not named) else list(items)
    return [knowledge]


def _guessed(item: ReadyCall | Question, article: str) -> bool:
    """Whether questions and reports about the bank are mistaken for what this is."""
    if item.tool in TOLD or isinstance(item, ReadyCall):
        return item.tool in TOLD
    if item.slot == "kind":
        return article == "compromised_card"
    strange = item.slot == "card" and "card" in item.call and not fitting(item.call["card"], item.options)
    return item.tool == "replace_card" and strange


def names_shop(items: Sequence[ReadyCall | Question | Facts], message: str) -> bool:
    """Whether a few words ask for payments to a merchant, whose name may mean something else: "just eat this month"."""
    return len(message.split()) < SHORT and all(
        isinstance(item, ReadyCall) and "merchant" in item.arguments for item in items
    )


def _fits(item: ReadyCall | Question, topic: str, message: str) -> bool:
    if item.tool not in LOOK_UPS:
        words = WORDS.get(item.tool)
        return topic in ACTS.get(item.tool, (topic,)) and (words is None or bool(words.search(message)))
    named = isinstance(item, ReadyCall) and not item.unread and item.arguments.keys() - UNNAMED
    return bool(named or WORDS["shows"].match(message) or _is_beside(item, topic))


def _is_beside(item: ReadyCall | Question, topic: str) -> bool:
    return topic.startswith(BESIDE.get(item.tool, ()))
