"""Hand-overs to a person: a masked summary of a conversation, kept in the ledger's file until it expires.

    handover_id = HandOverDesk(bank, settings).offer("CUST001", "conversation", ["My card is stuck in the machine"])

A contact centre reads it with the id that the reply names. Every offer and every reading is an entry of the audit log,
which holds ids, but nothing of the summary.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from bankllm.assistant.actions import audit
from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.errors import BankLLMError
from bankllm.settings import Settings
from bankllm.util.redaction import mask
from bankllm.util.text import random_id
from bankllm.vectors.sqlite.clock import Clock

LIFETIME_S = 24 * 3600
LISTED = 20
"""The latest entries of each list that a summary keeps."""


class UnknownHandOver(BankLLMError):
    """There is no such hand-over, or it has expired."""


class HandOver(BaseModel):
    """What a person needs to go on. Account numbers are masked."""

    model_config = ConfigDict(frozen=True)

    handover_id: str
    customer_id: str
    conversation_id: str
    created_at: datetime
    expires_at: datetime
    asked: tuple[str, ...] = ()
    """The customer's messages, oldest first."""
    understood: tuple[str, ...] = ()
    """What the assistant read in them, such as the calls in words."""
    tried: tuple[str, ...] = ()
    """What it answered or did."""


class HandOverDesk:
    """Keeps hand-overs; thread-safe, and safe with other processes that use the ledger's file.

    Each call raises `LedgerError` if the ledger cannot be used.
    """

    def __init__(self, bank: SQLiteBank, settings: Settings) -> None:
        """Raises `UsageError` as `audit.audit_key` does."""
        self._bank, self._clock, self._key = bank, Clock(), audit.prepare(bank, settings)

    def offer(
        self,
        customer_id: str,
        conversation_id: str,
        asked: Sequence[str],
        understood: Sequence[str] = (),
        tried: Sequence[str] = (),
    ) -> str:
        """Keep a summary and return its id; expired ones are deleted. Raises `UnknownCustomer`."""
        self._bank.require(customer_id)
        now = self._clock.latest()
        made = HandOver(
            handover_id=random_id(),
            customer_id=customer_id,
            conversation_id=conversation_id,
            created_at=datetime.fromtimestamp(now, UTC),
            expires_at=datetime.fromtimestamp(now + LIFETIME_S, UTC),
            asked=_masked(asked),
            understood=_masked(understood),
            tried=_masked(tried),
        )
        with audit.writing(self._bank) as db:
            db.execute("DELETE FROM handovers WHERE expires_at <= ?", (now,))
            values = (made.handover_id, now + LIFETIME_S, made.model_dump_json())
            db.execute("INSERT INTO handovers VALUES (?, ?, ?)", values)
            about = {"customer_id": customer_id, "handover_id": made.handover_id}
            audit.append(db, self._key, "handover_offered", **about)
        return made.handover_id

    def read(self, handover_id: str, reader: str) -> HandOver:
        """Return a hand-over, and log who read it (`reader`, the token's subject). Raises `UnknownHandOver`."""
        with audit.writing(self._bank) as db:
            sql = "SELECT summary FROM handovers WHERE handover_id = ? AND expires_at > ?"
            row = db.execute(sql, (handover_id, self._clock.latest())).fetchone()
            found = HandOver.model_validate_json(row[0]) if row else None
            if found:
                about = {"customer_id": found.customer_id, "handover_id": handover_id, "reader": reader}
                audit.append(db, self._key, "handover_read", **about)
        if found is None:
            raise UnknownHandOver("There is no such hand-over, or it has expired. Ask the customer again.")
        return found


def _masked(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(mask(text) for text in texts[-LISTED:])
