"""The tool calls that a message asks for, as words: by rules, and by the language model where rules are unsure."""

from collections.abc import Sequence

from bankllm.assistant.actions.yes_no import is_no
from bankllm.assistant.bank.tools import TOOL_NAMES, Call
from bankllm.assistant.conversation.reading import Reading
from bankllm.assistant.decision import CLEAR
from bankllm.assistant.earlier.shown import like_shown
from bankllm.assistant.facts import TOOLS, tool_of
from bankllm.assistant.followups import asks, stands_alone
from bankllm.assistant.language.fallbacks import GenerationFailed
from bankllm.assistant.language.language_model import needs_model, trusted
from bankllm.assistant.orders.in_context import (
    answering,
    back_again,
    from_there,
    in_same_account,
    of_other_card,
    of_regular,
    to_same_payee,
    with_same_card,
)
from bankllm.assistant.orders.waiting import corrected
from bankllm.assistant.understanding.orders import without_counts
from bankllm.assistant.understanding.slots import P

LATE_CARD = "card_arrival"
"""Intent of customers whose card has not arrived: they get its status, and the article."""


def proposed(reading: Reading) -> list[Call]:
    intent = reading.pending.decision.intent
    if intent in TOOLS and intent not in TOOL_NAMES:
        return [{"tool": intent}]  # a tool of another package
    return _small_talk(reading) or without_counts(_wished(reading), reading.message)


def in_conversation(reading: Reading, calls: Sequence[Call]) -> Sequence[Call]:
    """Complete the calls from what waited for a yes, what was asked, and the turns before."""
    if reading.withdrawn:
        calls = corrected(calls, reading.withdrawn, reading.message, reading.view, reading.today)
    if reading.question:
        calls = answering(calls, reading.question)
    if reading.turns:
        customer, messages = reading.customer, reading.messages
        calls = of_other_card(of_regular(calls, reading.message, reading.turns, customer), messages, customer)
        calls = in_same_account(from_there(calls, messages, customer), messages, customer)
        calls = like_shown(calls, reading.turns)
        calls = with_same_card(calls, reading.last, messages, customer)
        calls = to_same_payee(calls, reading.last, messages, customer)
        calls = back_again(calls, reading.last, reading.message, customer)
    return calls


def _small_talk(reading: Reading) -> list[Call]:
    message = reading.message
    if P["insult"].fullmatch(message) or (P["polite"].fullmatch(message) and reading.plain):
        return [{"tool": "small_talk"}]
    if is_no(message) or P["nothing"].fullmatch(message):
        booked = reading.parts.orders.last_booked(reading.pending) if "cancel" in message.lower() else None
        if booked and booked.tool == "transfer":  # one for a later day can be cancelled
            return [{"tool": "cancel_transfer"}]
        return [{"tool": "small_talk", "answer": message}]
    return [{"tool": "small_talk"}] if P["polite"].fullmatch(message) else []


def _wished(reading: Reading) -> list[Call]:
    """By the model, else by rules. Without the head's encoder the intent chooses the tool of the rules."""
    pending, model = reading.pending, reading.parts.model
    decision = pending.decision
    if decision.intent == LATE_CARD and decision.confidence >= CLEAR:
        return [{"tool": "card_status"}]  # and not a new card
    found, unclear = _by_rules(reading)
    if model is not None and unclear:
        pending.written = pending.written or model.ask(unclear, pending.caller)
        try:
            found = trusted(pending.result(pending.written), unclear, reading.rules, found)
            pending.understood_by = model.name
        except GenerationFailed as failure:
            pending.understanding_fallback = failure.reason
    if found or decision.alternatives:
        return found
    return reading.rules.read(tool_of(decision.intent), reading.messages)


def _by_rules(reading: Reading) -> tuple[list[Call], Sequence[str]]:
    """Return the calls that rules propose, and the messages that the model should read; none if rules are sure."""
    rules, messages = reading.rules, reading.messages
    found: list[Call] = []
    said, message = messages[-1:], messages[-1]
    if reading.parts.head_fits:
        found = rules.propose(said, first=len(messages) == 1)
        polite = [call["tool"] for call in found] == ["small_talk"] and not asks(message)
        alone = stands_alone(message) or P["whole_balance"].fullmatch(message)
        if len(messages) > 1 and not polite and not (found and alone):
            said = messages
            found = rules.propose(said)
    if reading.parts.model is None or not found:
        return found, messages
    return found, said if needs_model(said, rules, found) else ()
