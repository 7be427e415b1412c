"""A proposal, and its row in the table `actions` of the ledger's file."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

State = Literal["proposed", "booked", "cancelled", "expired", "replaced", "refused"]
"""`refused`: when it was confirmed, or its day had come, the ledger did not allow it any more."""
LIFETIME_S = 600
CLOCK_ERROR_S = 5.0
"""How far a clock may be set back before a proposal of its future counts as expired."""
_STORED = ("action_id", "customer_id", "conversation_id", "tool", "arguments", "text", "state", "proposed_at", "result")
_COLUMNS = ", ".join(_STORED)


class Proposal(BaseModel):
    model_config = ConfigDict(frozen=True)

    action_id: str
    """128 random bits as 32 letters."""
    customer_id: str
    conversation_id: str
    tool: str
    arguments: dict[str, Any]
    """All details; amounts in minor units, dates in ISO 8601."""
    text: str
    """What would be done, as the customer is asked."""
    state: State = "proposed"
    proposed_at: float
    """Seconds since 1970."""
    result: str = ""
    """Once booked or refused: what was done, or why not."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def digest(self) -> str:
        """SHA-256 of what is confirmed, as 64 hexadecimal digits."""
        content = [self.tool, self.arguments, self.customer_id, self.conversation_id]
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def expires_at(self) -> str:
        """ISO 8601, UTC."""
        return datetime.fromtimestamp(self.proposed_at + LIFETIME_S, UTC).isoformat(timespec="seconds")

    def at(self, now: float) -> "Proposal":
        """The proposal at the time `now`, when it may have expired. It also expires if the clock is set back."""
        fresh = self.proposed_at - CLOCK_ERROR_S <= now < self.proposed_at + LIFETIME_S
        return self if fresh or self.state != "proposed" else self.model_copy(update={"state": "expired"})


def insert(db: sqlite3.Connection, made: Proposal) -> None:
    values = made.model_dump(include=set(_STORED)) | {"arguments": json.dumps(made.arguments)}
    db.execute(f"INSERT INTO actions ({_COLUMNS}) VALUES (:{', :'.join(_STORED)})", values)


def select(db: sqlite3.Connection, condition: str = "true", *values: str, limit: int = -1) -> list[Proposal]:
    """The stored proposals, newest first."""
    sql = f"SELECT {_COLUMNS} FROM actions WHERE {condition} ORDER BY number DESC LIMIT {limit}"
    rows = [dict(zip(_STORED, row, strict=True)) for row in db.execute(sql, values)]
    return [Proposal(**row | {"arguments": json.loads(row["arguments"])}) for row in rows]


def closed_because(proposal: Proposal) -> str:
    """Why a proposal cannot be confirmed or cancelled, as a sentence for the customer."""
    reasons: Mapping[State, str] = {
        "booked": "This is done already, so it cannot be cancelled here.",
        "cancelled": "This was cancelled, and nothing was done. Tell me again if you want it after all.",
        "expired": "This was not confirmed within ten minutes, so nothing was done. Tell me again if you want it.",
        "replaced": "A newer request took its place, and nothing was done for this one.",
        "refused": f"This was not possible. {proposal.result}",
    }
    return reasons[proposal.state]
