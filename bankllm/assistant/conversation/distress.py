"""Whether a message gets the fixed reply to a customer in distress, its ordinary answer with an offer, or neither."""

import re

import numpy as np

from bankllm.assistant.care.replies import CareReply, care_reply
from bankllm.assistant.conversation.reading import Reading
from bankllm.assistant.followups import asks, stands_alone
from bankllm.assistant.orders.restated import refuses
from bankllm.assistant.understanding.beyond import asks_for_another
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
    if continues and refuses(message) and not reply.instead_of_answer(ambiguous=True):
        return None, False  # "better not, he would never forgive me" declines what was offered
    leaves = reading.turns and reading.turns[0].intent == LEAVING and LEAVES.fullmatch(message)
    if leaves or (reply.of_scam and decision.is_topic and decision.intent in CARD_FRAUD):
        reply = reply.as_offer()
    goes_on = continues and asks(message) and not stands_alone(message)
    ambiguous = goes_on or asks_for_another(message) or decision.is_topic
    ambiguous = ambiguous or _is_of_own(reading) or _asks_article(reading)
    return (reply, False) if reply.instead_of_answer(ambiguous) else (None, True)


def _is_of_own(reading: Reading) -> bool:
    """Whether a few words ask for payments to a merchant or of a category: "last thing i gave oxfam"."""
    if not reading.parts.head_fits or len(reading.message.split()) > FEW_WORDS:
        return False
    calls = reading.rules.propose([reading.message])
    return bool(calls) and all(call["tool"] in SUMS and call.keys() & SUBJECTS for call in calls)


def _asks_article(reading: Reading) -> bool:
    """Whether an article about no distress surely answers: "can me and my boyfriend have a joint account"."""
    found = reading.article(reading.message)
    return bool(found and found.sure and found.clear and not ABOUT_DISTRESS.search(found.article))
