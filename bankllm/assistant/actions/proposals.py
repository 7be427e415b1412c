"""Proposals on the server: made from a tool call, kept for ten minutes, and booked once after the customer's yes.

A proposal belongs to one customer and one conversation, which has at most one that waits: a new one replaces it. Its
digest covers tool, arguments, customer and conversation, so a client confirms what it has shown. State, booking and
entry of the audit log change in one transaction, so that after a crash, a retry, or two confirmations at the same time,
the action is booked once or not at all.
"""

import hmac
import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime

from bankllm.assistant.actions import audit
from bankllm.assistant.actions.cards import (
    plan_freeze_card,
    plan_replace_card,
    plan_report_card,
    plan_set_limit,
    plan_unfreeze_card,
)
from bankllm.assistant.actions.plans import ActionRefused, Plan, Situation, Wanted
from bankllm.assistant.actions.stored import Proposal, State, closed_because, insert, select
from bankllm.assistant.actions.transfers import DUE, plan_cancel_transfer, plan_transfer
from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.assistant.bank.ledger import format_money
from bankllm.assistant.bank.statement import day as written
from bankllm.assistant.facts import ReadyCall
from bankllm.errors import BankLLMError, LedgerError
from bankllm.settings import Settings
from bankllm.util.text import random_id
from bankllm.vectors.sqlite.clock import Clock

logger = logging.getLogger(__name__)

HOLD_S = 24 * 3600
"""How long payments are held."""
LISTED = 50
"""How many of a customer's latest proposals are listed."""
PLANS: dict[str, Callable[[Situation, Wanted], Plan]] = {
    "cancel_transfer": plan_cancel_transfer,
    "freeze_card": plan_freeze_card,
    "replace_card": plan_replace_card,
    "report_card": plan_report_card,
    "set_limit": plan_set_limit,
    "transfer": plan_transfer,
    "unfreeze_card": plan_unfreeze_card,
}
"""Acting tool → what makes its plan."""
_CONVERSATION = "customer_id = ? AND conversation_id = ?"


class UnknownAction(BankLLMError):
    """This customer has no such action; another customer may have it."""


class ActionClosed(BankLLMError):
    """The action cannot be confirmed or cancelled any more, or its digest differs. Nothing was changed by this call."""


class ActionDesk:
    """Proposes, confirms and cancels; thread-safe, and safe with other processes that use the ledger's file.

    Each call raises `LedgerError` if the ledger cannot be used.
    """

    def __init__(self, bank: SQLiteBank, settings: Settings) -> None:
        """Raises `UsageError` as `audit.audit_key` does."""
        self._bank, self.settings, self._clock = bank, settings, Clock()
        self._key = audit.prepare(bank, settings)
        self._booked_until: date | None = None

    def propose(self, customer_id: str, conversation_id: str, call: ReadyCall) -> Proposal:
        """Keep a proposal for a call of an acting tool; it replaces the one that waits in this conversation.

        Raises `UnknownCustomer`, and `ActionRefused` with a reply for the customer if the action is not possible. The
        proposal that waited is then replaced, too: a yes to it would be a yes to something else.
        """
        self._bank.require(customer_id)
        now, plan, refused = self._clock.latest(), None, None
        with audit.writing(self._bank) as db:
            db.execute("DELETE FROM payment_holds WHERE expires_at <= ?", (now,))
            for waiting in select(db, f"{_CONVERSATION} AND state = 'proposed'", customer_id, conversation_id):
                ended: State = "replaced" if waiting.at(now).state == "proposed" else "expired"
                self._decide(db, waiting.model_copy(update={"state": ended}), now)
            try:
                if call.tool == "cancel_transfer" and not call.arguments:
                    last = select(db, _CONVERSATION, customer_id, conversation_id, limit=1)
                    _check_unsent(last, self.settings.present_day)
                plan = self._plan(db, customer_id, conversation_id, call, now)
            except ActionRefused as error:
                refused = error
            else:
                made = Proposal(
                    action_id=random_id(),
                    customer_id=customer_id,
                    conversation_id=conversation_id,
                    tool=call.tool,
                    arguments=plan.arguments,
                    text=plan.text,
                    proposed_at=now,
                )
                self._keep(db, made)
        if refused:
            raise refused
        return made

    def book_due(self) -> None:
        """Book the scheduled transfers whose day has come; it looks for them once a day, before the ledger is read.

        Each is an action of its own, in a conversation with the id of the scheduled transfer: `booked`, or `refused`
        with the reason if the checks of a transfer fail on that day. It is then not tried again.
        """
        day = self.settings.present_day
        if self._booked_until == day:
            return
        try:
            with self._bank.reading() as db:
                found = db.execute(DUE, {"day": day.isoformat()}).fetchall()
            for id_, customer_id, to, due, arguments in found:
                now, wanted = self._clock.latest(), json.loads(arguments)
                money = format_money(wanted["amount_minor"], wanted["currency"])
                text = f"Send {money} to {to}, as scheduled for {written(due)}"
                ids = {"action_id": random_id(), "customer_id": customer_id, "conversation_id": id_}
                made = Proposal(**ids, tool="transfer", arguments=wanted, text=text, proposed_at=now)
                with audit.writing(self._bank) as db:
                    taken = "UPDATE scheduled SET status = 'booked' WHERE scheduled_id = ? AND status = 'waiting'"
                    if not db.execute(taken, (id_,)).rowcount:
                        continue  # another worker was first
                    self._keep(db, made)
                    ended, entry = self._book(db, made, now, as_shown=False)
                    if ended.state == "refused":
                        db.execute("UPDATE scheduled SET status = 'cancelled' WHERE scheduled_id = ?", (id_,))
                    self._decide(db, ended, now, entry)
            self._booked_until = day
        except LedgerError as error:
            logger.error("scheduled transfers whose day has come were not booked, which is tried again: %s", error)

    def pending(self, customer_id: str, conversation_id: str) -> Proposal | None:
        """The proposal that waits in this conversation."""
        last = self.latest(customer_id, conversation_id)
        return last if last and last.state == "proposed" else None

    def latest(self, customer_id: str, conversation_id: str) -> Proposal | None:
        """The newest proposal of this conversation, in any state."""
        return next(iter(self._read(_CONVERSATION, customer_id, conversation_id, limit=1)), None)

    def proposals(self, customer_id: str) -> list[Proposal]:
        """The customer's latest proposals in all conversations, newest first. Raises `UnknownCustomer`."""
        self._bank.require(customer_id)
        return self._read("customer_id = ?", customer_id)

    def confirm(self, customer_id: str, action_id: str, digest: str) -> Proposal:
        """Book the action and return it. If it is booked already, return it as it is.

        Raises `UnknownAction`, and `ActionClosed` if it does not wait any more or the ledger does not allow it.
        """
        return self._end(customer_id, action_id, digest, "booked")

    def cancel(self, customer_id: str, action_id: str, digest: str) -> Proposal:
        """Cancel a proposal and return it; a second call has no effect. Raises `UnknownAction`, `ActionClosed`."""
        return self._end(customer_id, action_id, digest, "cancelled")

    def hold_payments(self, customer_id: str) -> None:
        """Refuse transfers to others and higher limits for `HOLD_S`: the customer may be paying under a scam.

        This holds in all conversations of the customer and all processes, and for what was proposed before.
        """
        now = self._clock.latest()
        with audit.writing(self._bank) as db:
            db.execute("INSERT OR REPLACE INTO payment_holds VALUES (?, ?)", (customer_id, now + HOLD_S))
            audit.append(db, self._key, "payments_held", customer_id=customer_id)

    def holds_payments(self, customer_id: str) -> bool:
        with self._bank.reading() as db:
            return _is_held(db, customer_id, self._clock.latest())

    def _end(self, customer_id: str, action_id: str, digest: str, wanted: State) -> Proposal:
        now, entry = self._clock.latest(), None
        with audit.writing(self._bank) as db:
            found = select(db, "customer_id = ? AND action_id = ?", customer_id, action_id)
            if not found:
                raise UnknownAction("This customer has no such action.")
            proposal = found[0].at(now)
            if not hmac.compare_digest(proposal.digest.encode(), digest.encode()):
                raise ActionClosed("The digest is not that of this action. Show the customer the action again.")
            if proposal.state == "proposed" and wanted == "booked":
                proposal, entry = self._book(db, proposal, now)
            elif proposal.state == "proposed":
                proposal = proposal.model_copy(update={"state": wanted})
            if proposal.state != found[0].state:
                self._decide(db, proposal, now, entry)
        if proposal.state != wanted:
            raise ActionClosed(closed_because(proposal))
        return proposal

    def _book(
        self, db: sqlite3.Connection, proposal: Proposal, now: float, *, as_shown: bool = True
    ) -> tuple[Proposal, int | None]:
        """Change the ledger; return the booked or refused proposal, and its journal entry if there is one.

        `as_shown`: the plan must be that which the customer was shown.
        """
        try:
            call, of = ReadyCall(proposal.tool, proposal.arguments), (proposal.customer_id, proposal.conversation_id)
            plan = self._plan(db, *of, call, now)
            if as_shown and (plan.arguments, plan.text) != (proposal.arguments, proposal.text):
                raise ActionRefused("The details have changed since I asked you.")
            then, entry = plan.apply(proposal.action_id)
        except ActionRefused as error:
            return proposal.model_copy(update={"state": "refused", "result": str(error)}), None
        return proposal.model_copy(update={"state": "booked", "result": f"Done: {proposal.text}. {then}"}), entry

    def _plan(
        self, db: sqlite3.Connection, customer_id: str, conversation_id: str, call: ReadyCall, now: float
    ) -> Plan:
        if call.tool not in PLANS:
            raise ActionRefused(f"{call.tool} is no action.")
        if call.unread:
            raise ActionRefused(" ".join(call.unread))
        midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        day = self.settings.present_day
        held = _is_held(db, customer_id, now)
        situation = Situation(self._bank, db, customer_id, conversation_id, day, midnight, held)
        return PLANS[call.tool](situation, call.arguments)

    def _keep(self, db: sqlite3.Connection, made: Proposal) -> None:
        """Store a new proposal, and log it."""
        insert(db, made)
        self._log(db, made)

    def _decide(self, db: sqlite3.Connection, proposal: Proposal, now: float, entry: int | None = None) -> None:
        """Store the new state of a proposal, and log it."""
        update = "UPDATE actions SET state = ?, decided_at = ?, result = ? WHERE action_id = ?"
        db.execute(update, (proposal.state, now, proposal.result, proposal.action_id))
        self._log(db, proposal, **({"entry": entry} if entry is not None else {}))

    def _log(self, db: sqlite3.Connection, proposal: Proposal, **more: int) -> None:
        about = {name: getattr(proposal, name) for name in ("customer_id", "action_id", "tool", "digest")}
        audit.append(db, self._key, proposal.state, **about, **more)

    def _read(self, condition: str, *values: str, limit: int = LISTED) -> list[Proposal]:
        with self._bank.reading() as db:
            return [proposal.at(self._clock.latest()) for proposal in select(db, condition, *values, limit=limit)]


def _is_held(db: sqlite3.Connection, customer_id: str, now: float) -> bool:
    held = "SELECT 1 FROM payment_holds WHERE customer_id = ? AND expires_at > ?"
    return db.execute(held, (customer_id, now)).fetchone() is not None


def _check_unsent(last: Sequence[Proposal], day: date) -> None:
    """Refuse "cancel it" after a transfer that was sent: it does not mean another one."""
    for one in last:
        if (one.tool, one.state, one.arguments.get("date")) == ("transfer", "booked", day.isoformat()):
            raise ActionRefused(
                "This transfer was sent, so it cannot be undone here. If it is wrong, ask for a person."
            )
