"""The chat engine: one pass of the encoder tells the intent and, where it can, finds earlier messages too.

with ChatEngine.load(None, Path("memory.sqlite"), get_settings()) as engine:
    engine.chat("What is my account balance?", "CUST001").reply
"""

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from bankllm import models
from bankllm.artefact import Artefact, Classifier
from bankllm.errors import ModelError, UsageError
from bankllm.serving.batcher import Batcher
from bankllm.serving.generation import make_responder
from bankllm.serving.inference import load_classifier, shared_embedder
from bankllm.serving.knowledge import load_knowledge
from bankllm.serving.ledger import Ledger
from bankllm.serving.privacy import mask
from bankllm.serving.responder import Facts, Responder
from bankllm.settings import Settings
from bankllm.vectors.rows import Match
from bankllm.vectors.service import VectorService, open_service

DEFAULT_ADAPTER = Path(__file__).parents[1] / "data" / "assistant"
LEDGER_INTENTS = frozenset({"account_balance", "account_details", "recent_transactions"})
SMALL_TALK = frozenset({"goodbye", "greeting", "human_agent", "out_of_scope"})
ABSTAINED = "out_of_scope"
MAX_MESSAGE_CHARACTERS = 2000
RECALLED = 5
"""How many of the customer's nearest earlier messages are looked at."""
SPECIAL_TOKENS = 2
"""Around a text: [CLS] and [SEP]."""
PASS = 8
"""Texts that go through the encoder together, the shortest first: more would be padded more."""
RELATED = 0.6
"""Cosine from which an earlier message counts as being about the same thing."""


class Latency(BaseModel):
    """Where the time of one message went, in ms. The stages follow each other and add up to `total`."""

    model_config = ConfigDict(frozen=True)

    queue: float
    """Checking the customer and waiting for the encoder."""
    encode: float
    """Tokenizer, encoder and head, for all messages of the batch."""
    classify: float
    """From probabilities to an intent or an abstention."""
    retrieve: float
    """Memory search, ledger and knowledge."""
    respond: float
    """Wording the reply and committing the turn to memory."""
    total: float


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
    model: str
    conversation_id: str
    latency_ms: Latency


class ChatEngine:
    """Answers messages, from any number of threads. Owns its memory and ledger: `close` closes them."""

    def __init__(self, classifier: Classifier, memory: VectorService, ledger: Ledger, responder: Responder) -> None:
        """Raises `ModelError` if the classifier knows an intent that nothing here answers."""
        self.classifier = classifier
        self.memory = memory
        self.ledger = ledger
        self.responder = responder
        self.model = model_name(classifier.artefact)
        self._knowledge = load_knowledge()
        unanswered = sorted(set(classifier.label_names) - LEDGER_INTENTS - set(self._knowledge))
        if unanswered:
            raise ModelError(
                f"The classifier has intents without an answer: {', '.join(unanswered[:5])}. Expected Banking77's "
                "intents and the assistant's; train on the data set `assistant`, or add articles to knowledge.json."
            )
        self._shares_embedding = _same_embedding(classifier, memory)
        # Concurrent passes would only fight for the same cores, and the tokenizer keeps state between calls.
        self._encoder = Batcher(self._encode, observe=lambda size: self.observe_batch(size))
        self.observe_batch: Callable[[int], None] = lambda size: None
        """Hears how many messages each pass of the encoder has; for metrics."""

    @classmethod
    def load(
        cls, adapter: Path | None, store_path: Path | None, settings: Settings, responder: str | None = None
    ) -> Self:
        """Load an adapter (None: the packaged one), a memory (None: lost on `close`), a responder (None: the
        settings'), and warm up.

        Raises `ModelError` or `StoreError` where one of them is missing or damaged, `UsageError` for the responder.
        """
        words = make_responder(responder or settings.responder, settings)
        classifier = load_classifier(adapter or DEFAULT_ADAPTER, settings)
        memory = open_service(store_path, settings, embedder=shared_embedder(classifier, settings))
        try:
            engine = cls(classifier, memory, Ledger(), words)
            classifier.score(["warm up"])
        except BaseException:
            memory.close()
            raise
        return engine

    def chat(self, message: str, customer_id: str, conversation_id: str | None = None) -> ChatReply:
        """Answer one message; when this returns, the turn is in the customer's memory, account numbers masked.

        Raises `UsageError` for an empty or overlong message, `UnknownCustomer`, `Overloaded`, `StoreError`.
        """
        if not message.strip() or len(message) > MAX_MESSAGE_CHARACTERS:
            raise UsageError(
                f"A message takes 1 to {MAX_MESSAGE_CHARACTERS} characters, not only spaces; got {len(message)}."
            )
        message = mask(message)
        clock = _Stopwatch()
        self.ledger.require(customer_id)
        clock.lap("queue")
        (probabilities, vector), waited_s = self._encoder.process(message)
        clock.lap("encode", of_which=("queue", waited_s))
        intent, confidence, alternatives = self._decide(probabilities)
        clock.lap("classify")
        facts = self._gather(message, customer_id, intent, alternatives, vector)
        clock.lap("retrieve")
        reply = self.responder.respond(facts)
        self.memory.store_message(customer_id, message, mask(reply.text), intent, vector=vector)
        clock.lap("respond")
        return ChatReply(
            reply=reply.text,
            intent=intent,
            confidence=confidence,
            sources=reply.sources,
            responder=reply.responder,
            fallback=reply.fallback,
            model=self.model,
            conversation_id=conversation_id or uuid.uuid4().hex,
            latency_ms=clock.latency(),
        )

    def export(self, customer_id: str) -> list[dict[str, str]]:
        """What is kept about a customer, see `VectorService.export_user`. Raises `UnknownCustomer`, `StoreError`."""
        self.ledger.require(customer_id)
        return self.memory.export_user(customer_id)

    def forget(self, customer_id: str) -> None:
        """Remove what is kept about a customer. Raises `UnknownCustomer`, `StoreError`."""
        self.ledger.require(customer_id)
        self.memory.forget_user(customer_id)

    def close(self) -> None:
        """Answer what waits for the encoder, then close memory and ledger."""
        self._encoder.close()
        self.memory.close()
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decide(self, probabilities: np.ndarray) -> tuple[str, float, tuple[str, ...]]:
        """(classes,) probabilities → intent, confidence, and the titles of the two likeliest topics if unsure."""
        names = [self.classifier.label_names[i] for i in np.argsort(-probabilities)]
        confidence = float(probabilities.max())
        if confidence >= self.classifier.artefact.threshold:
            return names[0], confidence, ()
        topics = [name for name in names if name not in SMALL_TALK]
        return ABSTAINED, confidence, tuple(self._title(topic) for topic in topics[:2])

    def _title(self, intent: str) -> str:
        article = self._knowledge.get(intent)
        return article.title if article else f"Your {intent.replace('_', ' ')}"

    def _gather(
        self, message: str, customer_id: str, intent: str, alternatives: tuple[str, ...], vector: np.ndarray
    ) -> Facts:
        """Look up, for this customer alone, what a reply may rest on."""
        matches = self.memory.semantic_search(message, RECALLED, user_id=customer_id, vector=vector)
        return Facts(
            message=message,
            intent=intent,
            article=self._knowledge.get(intent),
            accounts=self.ledger.accounts(customer_id) if intent in LEDGER_INTENTS else (),
            transactions=self.ledger.transactions(customer_id) if intent == "recent_transactions" else (),
            alternatives=alternatives,
            earlier=_related(matches, intent, hand_over=intent == "human_agent" or bool(alternatives)),
        )

    def _encode(self, messages: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each message (classes,) probabilities, and the (dim,) vector under which memory keeps it."""
        scores = self.classifier.score(messages, PASS)
        # A token is a character at least. Beyond its limit the classifier drops text that memory would still read.
        longest = max(map(len, messages)) + SPECIAL_TOKENS
        vectors = scores.base_embeddings if self._shares_embedding else None
        if vectors is None or longest > self.classifier.artefact.max_length:
            vectors = self.memory.embedder.encode(messages)
        return list(zip(scores.probabilities, vectors, strict=True))


class _Stopwatch:
    """Splits a stretch of time into consecutive stages."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._stages_ms: dict[str, float] = {}

    def lap(self, stage: str, of_which: tuple[str, float] | None = None) -> None:
        """End a stage; of it, so many seconds belong to another one that came before."""
        now = time.perf_counter()
        other, seconds = of_which or (stage, 0.0)
        self._stages_ms[stage] = 1000 * (now - self._last - seconds)
        self._stages_ms[other] += 1000 * seconds
        self._last = now

    def latency(self) -> Latency:
        total = 1000 * (self._last - self._start)
        return Latency(**{stage: round(ms, 3) for stage, ms in self._stages_ms.items()}, total=round(total, 3))


def model_name(artefact: Artefact) -> str:
    """For responses and metrics, e.g. `all-MiniLM-L6-v2+probe`; a base model's folder is named without its path."""
    return f"{models.resolve(artefact.base_model).name}+{artefact.method}"


def _same_embedding(classifier: Classifier, memory: VectorService) -> bool:
    """Whether classifier and memory turn a text into the same vector."""
    sha256 = classifier.artefact.base_sha256
    if not classifier.shares_base_embedding or sha256 is None:
        return False
    variant = f"+{classifier.variant}" if classifier.variant else ""
    return memory.embedder.model_id.endswith(f"@{sha256[:12]}{variant}")


def _related(matches: list[Match], intent: str, hand_over: bool) -> Match | None:
    """The nearest earlier message about the same thing: of the same intent or, where a person takes over, of any."""
    for match in matches:
        topic = match.metadata["intent"]
        if match.score >= RELATED and topic not in SMALL_TALK and (hand_over or topic == intent):
            return match
    return None
