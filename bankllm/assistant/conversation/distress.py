"""Whether a message gets the fixed reply to a customer in distress, its ordinary answer with an offer, or neither.

`after_distress` answers what is asked after such a reply, and means nothing without it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bankllm.assistant.care.replies import CareReply, care_reply
from bankllm.assistant.conversation.call_values import UNKNOWN
from bankllm.assistant.conversation.reading import Reading
from bankllm.assistant.facts import Facts, ReadyCall
from bankllm.assistant.followups import asks, stands_alone
from bankllm.assistant.orders.restated import refuses
from bankllm.assistant.orders.waiting import Item
from bankllm.assistant.understanding.beyond import asks_for_another, asks_of_other
from bankllm.assistant.understanding.certain import who_pays
from bankllm.assistant.understanding.completion import SUBJECTS
from bankllm.assistant.understanding.sum_wishes import SUMS
from bankllm.errors import ModelError

CARD_FRAUD = frozenset(("card_payment_not_recognised", "cash_withdrawal_not_recognised", "compromised_card"))
"""Intents of payments by a stranger with the customer's card: no criminal waits for the customer to pay."""
LEAVING = "terminate_account"
"""Intent of customers who close their account; they go on with "I really want to leave"."""
LEAVES = re.compile(
    r"\W*(?:(?:no|yes|i|we|really|just|still|do|want|wanna|to|leave|close|it|my|the|this|account|bank|please|so|now)\b\W*)+",
    re.IGNORECASE,
)
"""A message that says nothing but that."""
ABOUT_DISTRESS = re.compile(
    "who_sees|abuse|scam|fraud|bereave|hardship|arrears|gambl|never_ask|missed|debt|power_of|support"
)
"""Parts of the ids of articles about what customers in distress tell."""
MOVES_MONEY = re.compile("payee_|transfer_|limit|chaps|sepa|account_details|message_codes|online_payment_conf")
"""Parts of the ids of articles, and a tool, that somebody needs who pays a criminal; orders are held anyway."""
GRATEFUL = re.compile(
    r"\bthank(?:s| you)\b.*\b(?:brilliant|great|lovely|helpful|kind|wonderful|fantastic|patient|star|best)\b",
    re.IGNORECASE,
)
"""Praise for somebody of the bank, also on the phone."""
FEW_WORDS = 10
"""Words of a message that only asks for payments, and tells of nothing."""


def distress(reading: Reading) -> tuple[CareReply | None, bool]:
    """Return the reply that is sent instead of an answer, and whether the answer ends with the offer of a person."""
    message, decision, continues = reading.message, reading.pending.decision, reading.pending.continues
    try:  # with another encoder only certain phrases are found
        vector = reading.vector(message) if reading.parts.head_fits else np.empty(0)
        reply = care_reply(message, vector, reading.parts.settings.helplines)
    except ModelError:
        return None, False
    if reply is None:
        return None, False
    if reply.of_scam and reply.probability < 1 and (who_pays(message, reading.customer) or asks_of_other(message)):
        return None, False
    if continues and refuses(message) and not reply.instead_of_answer(ambiguous=True):
        return None, False  # "better not, he would never forgive me" declines what was offered
    leaves = reading.turns and reading.turns[0].intent == LEAVING and LEAVES.fullmatch(message)
    if leaves or (reply.of_scam and decision.is_topic and decision.intent in CARD_FRAUD):
        reply = reply.as_offer()
    goes_on = continues and asks(message) and not stands_alone(message)
    ambiguous = goes_on or asks_for_another(message) or decision.is_topic or GRATEFUL.search(message) is not None
    decides = reading.parts.orders.waits(reading.pending) and not reply.of_scam  # "let them keep it, I changed my mind"
    ambiguous = ambiguous or decides or _is_of_own(reading) or _asks_article(reading)
    if not reply.instead_of_answer(ambiguous):
        return None, True
    before = reading.parts.cared.of(reading.pending.customer_id, reading.pending.conversation_id)
    if before and before.holds_payments and reply.probability < 1:
        return before, False  # what somebody tells about the caller belongs to the scam
    return replace(reply, sources=reading.nearest_first(message, reply.sources)), False


def after_distress(reading: Reading, found: Sequence[Item]) -> Item | None:
    """Return what answers a question that nothing else answers, if such a reply stands before it: its first article, or
    the reply again.

    After a warning of a scam, nothing is given that somebody needs who pays.
    """
    cared = reading.parts.cared.of(reading.pending.customer_id, reading.pending.conversation_id)
    if cared is None:
        return None
    calls = [item for item in found if isinstance(item, ReadyCall)]
    unanswered = [*found] == [UNKNOWN] or all(_is_unanswered(item, reading.message) for item in found)
    subjects = [call.arguments.get("article", call.tool) for call in calls]
    if cared.of_scam:
        unanswered = unanswered or any(MOVES_MONEY.search(subject) for subject in subjects)
    elif "out_of_scope" in subjects and reading.is_off_topic(reading.message):
        return None
    if not unanswered:
        return None
    if cared.of_scam or not cared.sources:
        return Facts(cared.text, sources=cared.sources)
    return ReadyCall("knowledge", {"article": cared.sources[0].removeprefix("knowledge:")})


def _is_unanswered(item: Item, message: str) -> bool:
    """Whether it is an article that may not answer, or a greeting for a question."""
    if not isinstance(item, ReadyCall):
        return False
    if item.tool == "small_talk":
        return asks(message) and "answer" not in item.arguments
    article = item.arguments.get("article")
    return item.tool == "knowledge" and (article == "out_of_scope" or not item.arguments.get("sure", True))


def _is_of_own(reading: Reading) -> bool:
    """Whether a few words ask for an account's balance, or for payments to somebody: "last thing i gave oxfam"."""
    if not reading.parts.head_fits or len(reading.message.split()) > FEW_WORDS:
        return False
    calls = reading.rules.propose([reading.message])
    return bool(calls) and all(
        (call["tool"] in SUMS and call.keys() & SUBJECTS) or (call["tool"] == "balance" and "account" in call)
        for call in calls
    )


def _asks_article(reading: Reading) -> bool:
    """Whether an article about no distress surely answers: "can me and my boyfriend have a joint account"."""
    found = reading.article(reading.message)
    return bool(found and found.sure and found.clear and not ABOUT_DISTRESS.search(found.article))
