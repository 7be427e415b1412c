"""The data of one chat: the pending chat as it passes through the engine, and the reply that leaves it."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from bankllm.assistant.decision import Decision
from bankllm.assistant.wording.responder import Reply


class Latency(BaseModel):
    """The duration of each stage of a chat, in ms. The stages follow each other and add up to `total`."""

    model_config = ConfigDict(frozen=True)

    queue: float
    """Check of the customer, wait for the encoder, and wait for a thread that continues."""
    tokenise: float
    encode: float
    """Encoder and head. This and `tokenise` are for all messages of the pass."""
    classify: float
    """From probabilities to a decision. A follow-up goes through the encoder again."""
    retrieve: float
    """Memory search and tool."""
    respond: float
    """Wording of the reply, and the commit of the turn to memory."""
    total: float


class ChatReply(BaseModel):
    model_config = ConfigDict(frozen=True)

    reply: str
    intent: str
    confidence: float
    sources: tuple[str, ...]
    responder: str
    """What generated the reply: `template`, or the language model's name."""
    fallback: str | None = None
    """See `bankllm.assistant.wording.responder.Fallback`."""
    unavailable: tuple[str, ...] = ()
    """What failed: `memory` (earlier messages were not read) or `storing` (this turn was not stored)."""
    model: str
    conversation_id: str
    latency_ms: Latency
    request_id: str = ""
    """The id of the HTTP request in the server's log; empty outside a server."""


class Encoded(NamedTuple):
    """The encoder's result for one message, and the times of its pass (`time.perf_counter`)."""

    probabilities: np.ndarray
    """(classes,)"""
    vector: np.ndarray
    """(dim,) the embedding under which memory stores the message."""
    began: float
    tokenise_s: float
    ended: float


@dataclass
class PendingChat:
    """A chat on its way through the engine, which fills in the fields from `decision` on."""

    message: str
    """Account numbers are masked."""
    customer_id: str
    conversation_id: str
    continues: bool
    """Whether the conversation has earlier turns: the client sent its id."""
    request_id: str
    encoded: Future[Encoded]
    started: float = field(default_factory=time.perf_counter)
    decision: Decision = field(default_factory=Decision)
    unavailable: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    reply: Reply | None = None
    _stages: dict[str, float] = field(default_factory=dict)
    _last: float = 0.0

    def wait(self) -> Encoded:
        """Wait for the encoder. Ends the stages `queue`, `tokenise` and `encode`."""
        encoded = self.encoded.result()
        self._last = time.perf_counter()
        in_pass = encoded.ended - encoded.began
        queue = self._last - self.started - in_pass
        self._stages = {"queue": queue, "tokenise": encoded.tokenise_s, "encode": in_pass - encoded.tokenise_s}
        return encoded

    def end_stage(self, stage: str) -> None:
        now = time.perf_counter()
        self._stages[stage] = now - self._last
        self._last = now

    def complete(self, model: str) -> ChatReply:
        """The reply of a chat that has one. Ends the stage `respond`. `model` names the classifier."""
        assert self.reply is not None
        self.end_stage("respond")
        stages = {stage: round(1000 * seconds, 3) for stage, seconds in self._stages.items()}
        return ChatReply(
            reply=self.reply.text,
            intent=self.decision.intent,
            confidence=self.decision.confidence,
            sources=self.sources,
            responder=self.reply.responder,
            fallback=self.reply.fallback,
            unavailable=self.unavailable,
            model=model,
            conversation_id=self.conversation_id,
            latency_ms=Latency(**stages, total=round(1000 * (self._last - self.started), 3)),
            request_id=self.request_id,
        )
