"""The order of a conversation that waits for a yes, and the last one: confirm, cancel, or say what became of it."""

import re

from bankllm.assistant.actions.answers import answered
from bankllm.assistant.actions.proposals import ActionClosed, ActionDesk
from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.actions.yes_no import is_no, says_yes_to
from bankllm.assistant.customer_views import CustomerViews
from bankllm.assistant.facts import NEXT, Facts, Question
from bankllm.assistant.orders.restated import decision
from bankllm.assistant.orders.waiting import asks_if_done
from bankllm.assistant.turn import PendingChat
from bankllm.assistant.understanding.customer import CustomerView, by_label
from bankllm.assistant.understanding.orders import named_payees

BOTH = re.compile(r"\b(?:(?:to|for|do) )?both(?: of (?:them|those))?\b", re.IGNORECASE)
"""In a yes after two actions were offered; the second one is proposed after it all the same."""
CONFIRM_ELSEWHERE = "I cannot confirm or cancel anything here. Nothing was done. Please answer in the bank's own chat."


class ConversationOrders:
    """Without a desk, which a read-only service has not, nothing waits."""

    def __init__(self, desk: ActionDesk | None, views: CustomerViews) -> None:
        self._desk, self._views = desk, views

    def withdraw(self, pending: PendingChat) -> Proposal | None:
        """Cancel what waits for a yes, and return it."""
        if not (self._desk and pending.continues) or pending.rights == "read":
            return None
        waiting = self._desk.pending(pending.customer_id, pending.conversation_id)
        if waiting is None:
            return None
        try:
            return self._desk.cancel(waiting.customer_id, waiting.action_id, waiting.digest)
        except ActionClosed:  # it was confirmed or expired in the meantime
            return None

    def waits(self, pending: PendingChat) -> bool:
        return self._decision(pending)[0] is not None

    def decides(self, pending: PendingChat) -> bool:
        """Whether the message is a yes or a no, also to what waits for one."""
        return _decides(*self._decision(pending))

    def decided(self, pending: PendingChat) -> Facts | None:
        """Confirm or cancel what was proposed, if the message is a yes or a no."""
        waiting, said = self._decision(pending)
        if self._desk is None or not _decides(waiting, said) or (waiting is None and is_no(said)):
            return None
        if pending.rights != "confirm":
            return Facts(CONFIRM_ELSEWHERE)
        self._views.forget(pending.customer_id)
        return answered(self._desk, pending.customer_id, pending.conversation_id, said, waiting)

    def agrees(self, pending: PendingChat) -> bool:
        """Whether the message is a yes to what waits."""
        waiting, said = self._decision(pending)
        return waiting is not None and says_yes_to(waiting.tool, said)

    def _decision(self, pending: PendingChat) -> tuple[Proposal | None, str]:
        """Return what waits for a yes, and the message without what only restates it."""
        if self._desk is None or not pending.continues:  # nothing waits in a new conversation
            return None, pending.message
        waiting = self._desk.pending(pending.customer_id, pending.conversation_id)
        if waiting is None:
            return None, pending.message
        asked = Question.stored(pending.turns[0].question) if pending.turns else None
        message = BOTH.sub("", pending.message) if asked and asked.slot == NEXT else pending.message
        said = decision(message, waiting, self._desk.settings.present_day)
        same = said == pending.message or self._names_only(pending, waiting.arguments.get("payee_id"))
        return waiting, said if same else pending.message

    def _names_only(self, pending: PendingChat, payee_id: str | None) -> bool:
        """Whether each payee whom the message names may be this one: "Mum" is not "Oliver's Mum" where both are."""
        view = self._views.of(pending.customer_id) if payee_id else CustomerView()
        payees = by_label(view.payees)
        named = named_payees(pending.message, view)
        return all(payee_id in {payees[label].payee_id for label in labels} for _, _, labels in named)

    def done(self, pending: PendingChat) -> str:
        """Return what became of the conversation's last action, if the message asks whether it is done."""
        last = self.last_booked(pending) if asks_if_done(pending.message) else None
        return last.result if last else ""

    def last_booked(self, pending: PendingChat) -> Proposal | None:
        """Return the conversation's last proposal, if it was booked."""
        last = self.last(pending)
        return last if last and last.state == "booked" else None

    def last(self, pending: PendingChat) -> Proposal | None:
        """Return the conversation's last proposal."""
        if self._desk is None or not pending.continues:
            return None
        return self._desk.latest(pending.customer_id, pending.conversation_id)


def _decides(waiting: Proposal | None, said: str) -> bool:
    return says_yes_to(waiting.tool if waiting else "", said) or is_no(said)
