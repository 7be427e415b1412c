"""What a message asks for: a fixed reply, or tool calls whose words code turns into values of the customer's own data.

`items` gives what the reply covers, in this order. The steps are in `steps`.
"""

from collections.abc import Iterable

from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.bank.tools import Call
from bankllm.assistant.care.replies import OFFER
from bankllm.assistant.conversation.call_values import UNKNOWN
from bankllm.assistant.conversation.distress import after_distress, distress
from bankllm.assistant.conversation.reading import Encode, Reading, Understanding
from bankllm.assistant.conversation.steps import IN_CONTEXT, STEPS, WHILE_WAITING, Step
from bankllm.assistant.decision import Decision
from bankllm.assistant.facts import Facts, Question, ReadyCall
from bankllm.assistant.orders.waiting import Item, answer_and_ask, only_asks
from bankllm.assistant.turn import PendingChat
from bankllm.assistant.understanding.problems import names_shop
from bankllm.assistant.understanding.resolve import resolve


def items(parts: Understanding, pending: PendingChat, encode: Encode) -> list[Item]:
    """Return what to answer, in this order; empty if the message is not understood.

    Sets `pending.decision`, `pending.kept` of what is not stored, and `pending.withdrawn`: a message that is no yes
    and no no cancels what waits for one, so that a later yes never means what the customer has corrected. If it
    only asks something, the same action is proposed again.
    """
    reading = Reading(parts, pending, encode)
    cared, offers = distress(reading)
    if cared:
        pending.decision, pending.kept = Decision(cared.intent), False
        parts.orders.withdraw(pending)
        parts.cared.add(pending.customer_id, pending.conversation_id, cared)
        if cared.holds_payments and parts.desk:
            parts.desk.hold_payments(pending.customer_id)
        return [Facts(cared.text, sources=cared.sources)]
    if not pending.withdrawn and not parts.orders.decides(pending):  # a second try finds nothing that waits
        pending.withdrawn = parts.orders.withdraw(pending)
    waited = pending.withdrawn
    if (changed := _first(WHILE_WAITING, reading)) is not None:
        return _with_offered(changed, waited, reading.offered)
    if (found := _first(STEPS, reading)) is None:
        reading.classify_in_context()
        found = _first(IN_CONTEXT, reading) or []
    if again := after_distress(reading, found):
        if isinstance(again, Facts):
            pending.decision, pending.kept = Decision("human_agent"), False
        return [again]
    if pending.withdrawn and only_asks(pending.withdrawn, pending.message, found):
        withdrawn, pending.withdrawn = pending.withdrawn, None
        found = answer_and_ask(withdrawn, pending.message, found)
    elif found == [UNKNOWN] and pending.decision.alternatives:
        found = []
    found = _with_offered(found, waited, reading.offered)
    regular = any(isinstance(item, ReadyCall) and item.tool == "standing_orders" for item in found)
    if not offers or not found or regular or names_shop(found, pending.message):
        return found
    return [*found, Facts(OFFER)]


def _with_offered(found: list[Item], waited: Proposal | None, offered: Question | None) -> list[Item]:
    """Return the items; the second of two actions still follows the first one that is proposed again."""
    again = ReadyCall(waited.tool, waited.arguments) if waited else None
    if not (offered and again) or again not in found:
        return found
    place = found.index(again) + 1
    return [*found[:place], ReadyCall(offered.tool, offered.call), *found[place:]]


def _first(steps: Iterable[Step], reading: Reading) -> list[Item] | None:
    return next((found for step in steps if (found := step(reading)) is not None), None)


def ready(parts: Understanding, call: Call, customer_id: str) -> list[Item]:
    """Return a call of another program, with its words as values, or the question to ask."""
    return list(resolve([call], parts.views.of(customer_id), parts.settings.present_day))
