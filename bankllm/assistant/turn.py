"""What goes through the chat engine: a message on its way, what is made of it, and the reply with its times."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from bankllm.assistant.batcher import Job
from bankllm.assistant.wording.template import Facts


class Latency(BaseModel):
    """Where the time of one message went, in ms. The stages follow each other and add up to `total`."""

    model_config = ConfigDict(frozen=True)

    queue: float
    """Checking the customer, waiting for the encoder, and for a thread that goes on."""
    tokenise: float
    """Tokenizer, for all messages of the pass."""
    encode: float
    """Encoder and head, for all messages of the pass."""
    classify: float
    """From probabilities to an intent or an abstention; a follow-up goes through the encoder again."""
    retrieve: float
    """Memory search, ledger and knowledge."""
    respond: float
    """Wording the reply and committing the turn to memory."""
    total: float

    def stages_s(self) -> dict[str, float]:
        """The stages in seconds, as the metrics count them."""
        return {stage: ms / 1000 for stage, ms in self if stage != "total"}


class ChatReply(BaseModel):
    """An answer and what it rests on."""

    model_config = ConfigDict(frozen=True)

    reply: str
    intent: str
    """`out_of_scope` also where the classifier abstained."""
    confidence: float
    """Probability of the likeliest intent, 0 to 1."""
    sources: tuple[str, ...]
    responder: str
    """Who worded it: `template`, or the language model."""
    fallback: str | None = None
    """Why the template worded it though a language model was asked, e.g. `time-out`."""
    unavailable: tuple[str, ...] = ()
    """What did not answer: `memory` (earlier messages were not looked at) or `storing` (this turn is not kept)."""
    model: str
    conversation_id: str
    latency_ms: Latency


@dataclass
class PendingChat:
    """A message on its way to its answer: `ChatEngine.begin` makes it, `finish` or `stream` ends it."""

    message: str
    """Account numbers masked."""
    customer_id: str
    conversation_id: str | None
    """None where a conversation begins."""
    job: Job["Encoded"]
    started: float = field(default_factory=time.perf_counter)


class Encoded(NamedTuple):
    """What the encoder gives for one message."""

    probabilities: np.ndarray
    """(classes,)"""
    vector: np.ndarray
    """(dim,) under which memory keeps it."""
    tokenise_s: float = 0.0
    """What the tokenizer took of the pass."""


class Decision(NamedTuple):
    """What a message is taken to be about."""

    intent: str
    confidence: float
    alternatives: tuple[str, ...]
    """Titles of the likeliest topics, where the classifier abstained."""


class Stopwatch:
    """Splits an pending into consecutive stages, from its start on."""

    def __init__(self, pending: PendingChat) -> None:
        self._start, self._last = pending.started, time.perf_counter()
        in_pass, tokenise = pending.job.ended - pending.job.began, pending.job.done.result().tokenise_s
        queue = self._last - self._start - in_pass
        self._stages = {"queue": queue, "tokenise": tokenise, "encode": in_pass - tokenise}

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self._stages[stage] = now - self._last
        self._last = now

    def latency(self) -> Latency:
        stages = {stage: round(1000 * seconds, 3) for stage, seconds in self._stages.items()}
        return Latency(**stages, total=round(1000 * (self._last - self._start), 3))


@dataclass(frozen=True)
class Decided:
    """An pending of which the intent is known."""

    pending: PendingChat
    vector: np.ndarray
    """(dim,) under which memory keeps the message."""
    decision: Decision
    clock: Stopwatch


@dataclass(frozen=True)
class Draft:
    """An pending of which everything is known but the words of its reply."""

    decided: Decided
    facts: Facts
    unavailable: tuple[str, ...]
    """See `ChatReply.unavailable`."""
