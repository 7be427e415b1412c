"""The data of one chat: the pending chat as it passes through the engine, and the reply that leaves it."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.articles import ArticleScores
from bankllm.assistant.caller import Caller
from bankllm.assistant.decision import Decision
from bankllm.assistant.facts import NEXT, Facts, Question, ReadyCall
from bankllm.assistant.language.fallbacks import Fallback
from bankllm.assistant.wording.responder import Reply
from bankllm.errors import UsageError
from bankllm.model.generation import TextStream
from bankllm.util.redaction import mask
from bankllm.util.text import is_blank
from bankllm.vectors.namespaces import Message

ResultT = TypeVar("ResultT")
MAX_MESSAGE_CHARACTERS = 2000
Rights = Literal["read", "propose", "confirm"]
"""What a connection may do: only read, also propose actions, or also confirm them."""


def checked(message: str, conversation_id: str | None) -> str:
    """Return a customer's message with account numbers masked. Raises `UsageError` for one that is no message."""
    if is_blank(message) or len(message) > MAX_MESSAGE_CHARACTERS:
        raise UsageError(
            f"Expected a message of 1 to {MAX_MESSAGE_CHARACTERS} characters, not only spaces; got {len(message)} "
            "characters."
        )
    try:
        message.encode()
    except UnicodeEncodeError:  # JSON's escapes can write one half of a surrogate pair
        raise UsageError(
            "The message contains an unpaired surrogate, which is not a valid character. Send valid Unicode."
        ) from None
    if conversation_id and mask(conversation_id) != conversation_id:
        raise UsageError(
            "The conversation_id looks like an account number. Send the conversation_id of an earlier reply, or "
            "omit it."
        )
    return mask(message)


class Latency(BaseModel):
    """The duration of each stage of a chat, in ms. The stages follow each other and add up to `total`."""

    model_config = ConfigDict(frozen=True)

    queue: float
    """Check of the customer, wait for the encoder, and wait for a thread that continues."""
    tokenise: float
    encode: float
    """Encoder and head. This and `tokenise` are for all messages of the pass."""
    classify: float
    """From probabilities to tool calls. A follow-up and a message of several clauses go through the encoder again, and
    the language model reads messages of which rules are unsure."""
    retrieve: float
    """Memory search and tools."""
    respond: float
    """Wording of the reply, and the commit of the turn to memory."""
    total: float


class CallResult(BaseModel):
    """A call that was run: what was understood, and what the tool returned."""

    model_config = ConfigDict(frozen=True)

    tool: str
    arguments: dict[str, Any]
    """See `ReadyCall.arguments`."""
    result: dict[str, Any] | None = None
    """See `Facts.result`. None where only words were returned."""


class AskedBack(BaseModel):
    """What the reply asks; the next message of the conversation may answer it."""

    model_config = ConfigDict(frozen=True)

    tool: str
    slot: str
    options: tuple[str, ...] = ()


class ChatReply(BaseModel):
    model_config = ConfigDict(frozen=True)

    reply: str
    intent: str
    confidence: float
    calls: tuple[CallResult, ...] = ()
    """What was understood and done, in the order of the reply."""
    question: AskedBack | None = None
    understood_by: str = "rules"
    """What proposed the calls: `rules`, or the language model's name."""
    understanding_fallback: Fallback | None = None
    """Why rules read the message although a language model is configured."""
    handover_id: str | None = None
    """Of the summary for the person who takes over, see `bankllm.assistant.handover`."""
    pending_action: dict[str, Any] | None = None
    """The proposal that waits for a yes: `action_id`, `text`, `digest`, `expires_at`, `tool`, `arguments`."""
    sources: tuple[str, ...]
    responder: str
    """What generated the reply: `template`, or the language model's name."""
    fallback: str | None = None
    """See `bankllm.assistant.language.fallbacks.Fallback`."""
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


class NotYet(Exception):
    """A chat that may not wait needs the result of a future that is not done."""


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
    caller: Caller = field(default_factory=Caller)
    needed: dict[str, Future[Encoded]] = field(default_factory=dict)
    """Text → its encoding, of the texts that understanding this message needed so far."""
    scores: dict[str, ArticleScores] = field(default_factory=dict)
    """Text → how near it is to the articles, of the texts that were compared so far."""
    written: Future[TextStream] | None = None
    """What the language model writes about the message, if it was asked."""
    may_wait: bool = True
    """Whether the thread that finishes this chat may wait for it."""
    started: float = field(default_factory=time.perf_counter)
    decision: Decision = field(default_factory=Decision)
    rights: Rights = "confirm"
    understood_by: str = "rules"
    understanding_fallback: Fallback | None = None
    items: list[ReadyCall | Question | Facts] = field(default_factory=list)
    """What is answered, in this order; empty if the message was not understood."""
    kept: bool = True
    """Whether memory stores the turn."""
    calls: list[CallResult] = field(default_factory=list)
    question: Question | None = None
    pending_action: dict[str, Any] | None = None
    handover_id: str | None = None
    turns: Sequence[Message] = ()
    """Earlier turns of the conversation, the newest first."""
    unavailable: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    reply: Reply | None = None
    withdrawn: Proposal | None = None
    """The action that this message cancelled, because it is neither a yes nor a no."""
    _stages: dict[str, float] = field(default_factory=dict)
    _last: float = 0.0

    def leave(self) -> None:
        """The client has left: what is computed only for it ends."""
        self.encoded.cancel()
        self.caller.set()

    def wait(self) -> Encoded:
        """Wait for the encoder. Ends the stages `queue`, `tokenise` and `encode`."""
        encoded = self.encoded.result()
        if self._stages:  # the chat had to wait again
            return encoded
        self._last = time.perf_counter()
        in_pass = encoded.ended - encoded.began
        queue = self._last - self.started - in_pass
        self._stages = {"queue": queue, "tokenise": encoded.tokenise_s, "encode": in_pass - encoded.tokenise_s}
        return encoded

    def result(self, future: Future[ResultT]) -> ResultT:
        """Return what the future returns or raises. Raises `NotYet` if the chat would have to wait, and may not."""
        if not self.may_wait and not future.done():
            raise NotYet
        return future.result()

    @property
    def waits_for(self) -> list[Future[Any]]:
        """The futures after which a chat that may not wait can be tried again."""
        return [*self.needed.values(), *([self.written] if self.written else [])]

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
            calls=tuple(self.calls),
            question=AskedBack(**vars(self.question)) if self.question and self.question.slot != NEXT else None,
            understood_by=self.understood_by,
            understanding_fallback=self.understanding_fallback,
            handover_id=self.handover_id,
            pending_action=self.pending_action,
            sources=self.sources,
            responder=self.reply.responder,
            fallback=self.reply.fallback,
            unavailable=self.unavailable,
            model=model,
            conversation_id=self.conversation_id,
            latency_ms=Latency(**stages, total=round(1000 * (self._last - self.started), 3)),
            request_id=self.request_id,
        )
