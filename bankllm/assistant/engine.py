"""The chat engine: a customer's message in, a reply with its sources out.

One encoder pass gives the intent and, if the adapter allows it, the embedding for memory search. The engine then looks
up the facts, lets a responder word the reply, and stores the turn.

with ChatEngine.load(None, Path("memory.sqlite"), get_settings()) as engine:
    engine.chat("What is my account balance?", "CUST001").reply
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.bank.ledger import Ledger
from bankllm.assistant.batcher import Batcher
from bankllm.assistant.followups import is_follow_up, wanted_count
from bankllm.assistant.runtime import load_classifier, shared_embedder
from bankllm.assistant.turn import ChatReply, Encoded, PendingChat
from bankllm.assistant.wording.llm import make_responder
from bankllm.assistant.wording.template import Facts, Reply, Responder, TemplateResponder
from bankllm.errors import ModelError, StoreError, UsageError
from bankllm.model import base_models
from bankllm.model.artifact import Classifier, ClassifierConfig
from bankllm.settings import Settings
from bankllm.util.redaction import mask
from bankllm.vectors.pinecone.replicated import ReplicatedStore
from bankllm.vectors.rows import Match
from bankllm.vectors.service import VectorService, open_service

logger = logging.getLogger(__name__)

DEFAULT_ADAPTER = Path(__file__).parents[1] / "data" / "assistant"
LEDGER_INTENTS = frozenset({"account_balance", "account_details", "recent_transactions"})
SMALL_TALK = frozenset({"goodbye", "greeting", "human_agent", "out_of_scope"})
ABSTAINED = "out_of_scope"
MAX_MESSAGE_CHARACTERS = 2000
STORE_WAIT_S = 3.0
"""Timeout per call when other processes share the store. A chat makes two calls (three for a follow-up) and continues
without history on a timeout, so the wait is bounded."""
RECALLED = 5
"""How many of the customer's nearest earlier messages are considered."""
SPECIAL_TOKENS = 2
"""Tokens that the tokenizer adds to a text: [CLS] and [SEP]."""
TRANSACTIONS = 5
"""Transactions in a reply if the customer names no number."""
LETTERS = str.maketrans("0123456789", "ghijklmnop")
"""Replaces the digits in a new conversation's id, so that the id cannot read as an account number."""
CONTEXT = 20
"""The customer's latest turns among which the conversation's last turn is searched."""
CLEAR = 0.8
"""Confidence from which a message that is worded as a follow-up is classified without the turn before it."""
RELATED = 0.6
"""Cosine similarity from which an earlier message counts as being about the same topic."""


class ChatEngine:
    """Answers messages, from any number of threads. Owns its memory and ledger: `close` closes them."""

    def __init__(
        self,
        classifier: Classifier,
        memory: VectorService,
        ledger: Ledger,
        responder: Responder,
        encoder_threads: int = 1,
    ) -> None:
        """`encoder_threads` is the number of encoder passes that run at the same time.

        Raises `ModelError` if the classifier has an intent that neither the ledger nor an article answers.
        """
        self.classifier = classifier
        self.memory = memory
        self.ledger = ledger
        self.responder = responder
        self.model = model_name(classifier.artifact)
        self._knowledge = load_knowledge()
        unanswered = sorted(set(classifier.label_names) - LEDGER_INTENTS - set(self._knowledge))
        if unanswered:
            raise ModelError(
                f"The classifier has intents without an answer: {', '.join(unanswered[:5])}. Expected Banking77's "
                "intents and the assistant's; train on the data set `assistant`, or add articles to knowledge.json."
            )
        self._shares_embedding = _same_embedding(classifier, memory)
        self._encoder = Batcher(self._encode, threads=encoder_threads, observe=lambda size: self.observe_batch(size))
        self.observe_batch: Callable[[int], None] = lambda size: None
        """Called with the number of messages of each encoder pass; for metrics."""
        self.observe_reply: Callable[[ChatReply], None] = lambda reply: None
        """Called with each complete reply, from every route; for metrics."""

    @classmethod
    def load(
        cls, adapter: Path | None, store_path: Path | None, settings: Settings, responder: str | None = None
    ) -> Self:
        """Load an adapter (None: the packaged one), a memory file (None: in memory, lost on `close`) and a responder
        (None: the one in the settings), and run one warm-up pass.

        Raises `ModelError` or `StoreError` if one of them is missing or damaged, `UsageError` for an unknown responder.
        """
        chosen = make_responder(responder or settings.responder, settings)
        classifier, threads = load_classifier(adapter or DEFAULT_ADAPTER, settings)
        embedder = shared_embedder(classifier, settings)
        memory = open_service(store_path, settings, embedder=embedder, wait_s=STORE_WAIT_S)
        try:
            engine = cls(classifier, memory, Ledger(), chosen, threads)
            engine.embed(["warm up"])
        except BaseException:
            memory.close()
            raise
        return engine

    def chat(self, message: str, customer_id: str, conversation_id: str | None = None) -> ChatReply:
        """Answer one message. When this returns, memory has the turn, with account numbers masked.

        Raises `UsageError` for an empty or overlong message, `UnknownCustomer`, `Overloaded`, and `StoreError` if the
        ledger fails. If memory fails, the chat still gets a reply; see `ChatReply.unavailable`.
        """
        return self.finish(self.begin(message, customer_id, conversation_id))

    def begin(
        self, message: str, customer_id: str, conversation_id: str | None = None, request_id: str = ""
    ) -> PendingChat:
        """Check a message and queue it for the encoder, without waiting. Raises as `chat` does."""
        if not message.strip() or len(message) > MAX_MESSAGE_CHARACTERS:
            raise UsageError(
                f"Expected a message of 1 to {MAX_MESSAGE_CHARACTERS} characters, not only spaces; got {len(message)} "
                "characters."
            )
        if not is_text(message):
            raise UsageError(
                "The message contains an unpaired surrogate, which is not a valid character. Send valid Unicode."
            )
        if conversation_id and mask(conversation_id) != conversation_id:
            raise UsageError(
                "The conversation_id looks like an account number. Send the conversation_id of an earlier reply, or "
                "omit it."
            )
        message = mask(message)
        self.ledger.require(customer_id)
        return PendingChat(
            message=message,
            customer_id=customer_id,
            conversation_id=conversation_id or uuid.uuid4().hex.translate(LETTERS),
            continues=bool(conversation_id),
            request_id=request_id,
            encoded=self._encoder.submit(message),
        )

    def finish(self, pending: PendingChat) -> ChatReply:
        """Wait for the encoder, look up the facts, generate the reply and store the turn."""
        return [item for item in self._answer(pending, streamed=False) if isinstance(item, ChatReply)][-1]

    def stream(self, pending: PendingChat) -> Iterator[str | ChatReply]:
        """The pieces of the reply as the responder generates them, then the whole `ChatReply`.

        If its `fallback` is set, its text replaces the pieces. A turn is stored only if the caller reads to the end.
        """
        return self._answer(pending, streamed=True)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) embeddings of texts, as memory stores them, with account numbers masked. Raises `Overloaded`."""
        encoded = [self._encoder.submit(mask(text)) for text in texts]
        return np.stack([future.result().vector for future in encoded])

    def finish_together(self, pending_chats: Sequence[PendingChat]) -> list[ChatReply | Exception | None]:
        """`finish` for several chats with one search and one commit, in a fraction of the time.

        Returns per chat what `finish` returns or raises. None: only `finish` can answer this chat, since it needs
        another encoder pass, which would delay the others. Raises `UsageError` for an argument that memory refuses,
        and then nothing is stored.
        """
        results: list[ChatReply | Exception | None] = [None] * len(pending_chats)
        classified: dict[int, PendingChat] = {}
        replied: dict[int, tuple[PendingChat, Reply]] = {}
        for number, pending in enumerate(pending_chats):
            try:
                if self._classify(pending, together=True):
                    classified[number] = pending
            except Exception as error:  # noqa: BLE001  the caller of this chat gets any error
                results[number] = error
        recalled = self._recall(list(classified.values()))
        for (number, pending), matches in zip(classified.items(), recalled, strict=True):
            try:
                replied[number] = pending, self.responder.respond(self._look_up(pending, matches))
            except Exception as error:  # noqa: BLE001
                results[number] = error
        for number, reply in zip(replied, self._store(list(replied.values())), strict=True):
            results[number] = reply
        return results

    @property
    def answers_together(self) -> bool:
        """Whether `finish_together` may be used: neither responder nor memory waits for another machine."""
        return isinstance(self.responder, TemplateResponder) and not isinstance(self.memory.store, ReplicatedStore)

    def _answer(self, pending: PendingChat, streamed: bool) -> Iterator[str | ChatReply]:
        self._classify(pending)
        (matches,) = self._recall([pending])
        facts = self._look_up(pending, matches)
        for item in self.responder.stream(facts) if streamed else [self.responder.respond(facts)]:
            if isinstance(item, str):
                yield item
            else:
                yield from self._store([(pending, item)])

    def _classify(self, pending: PendingChat, *, together: bool = False) -> bool:
        """Wait for the encoder and set intent, confidence and alternatives.

        With `together`, return False if that needs another encoder pass.
        """
        decision = self._decide(pending.wait().probabilities)
        _, confidence, alternatives = decision
        unclear = alternatives or (confidence < CLEAR and is_follow_up(pending.message))
        if pending.continues and unclear:
            if together:
                return False
            decision = self._decide_in_context(pending, decision)
        pending.intent, pending.confidence, pending.alternatives = decision
        pending.end_stage("classify")
        return True

    def _store(self, replied: Sequence[tuple[PendingChat, Reply]]) -> list[ChatReply]:
        """Store the turns with one commit; return the complete replies."""
        rows = [
            (
                pending.customer_id,
                self.memory.for_user(pending.customer_id).row(
                    pending.message,
                    reply.text,
                    pending.intent,
                    pending.encoded.result().vector,
                    conversation_id=pending.conversation_id,
                ),
            )
            for pending, reply in replied
        ]
        try:
            self.memory.store_rows(rows)
        except StoreError as error:
            logger.error(
                "the turns of %d chats were not stored; the replies are sent all the same: %s", len(rows), error
            )
            for pending, _ in replied:
                pending.unavailable += ("storing",)
        return [self._complete(pending, reply) for pending, reply in replied]

    def _complete(self, pending: PendingChat, reply: Reply) -> ChatReply:
        pending.end_stage("respond")
        complete = ChatReply(
            reply=reply.text,
            intent=pending.intent,
            confidence=pending.confidence,
            sources=reply.sources,
            responder=reply.responder,
            fallback=reply.fallback,
            unavailable=pending.unavailable,
            model=self.model,
            conversation_id=pending.conversation_id,
            latency_ms=pending.latency(),
            request_id=pending.request_id,
        )
        self.observe_reply(complete)
        return complete

    def describe(self) -> dict[str, str]:
        """Names of the models and the responder; for metrics."""
        return {
            "model": self.model,
            "base_sha256": (self.classifier.artifact.base_sha256 or "")[:12],
            "intents": str(len(self.classifier.label_names)),
            "embedding": self.memory.embedder.model_id,
            "responder": self.responder.name,
        }

    @property
    def waiting(self) -> int:
        """Approximate number of messages that wait for the encoder."""
        return self._encoder.waiting

    def export(self, customer_id: str) -> list[dict[str, str]]:
        """All stored turns of a customer, see `VectorService.export_user`. Raises `UnknownCustomer`, `StoreError`."""
        self.ledger.require(customer_id)
        return self.memory.export_user(customer_id)

    def forget(self, customer_id: str) -> None:
        """Delete all stored turns of a customer. Raises `UnknownCustomer`, `StoreError`."""
        self.ledger.require(customer_id)
        self.memory.forget_user(customer_id)

    def close(self) -> None:
        """Complete the queued encoder requests, then close memory and ledger."""
        self._encoder.close()
        self.memory.close()
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decide(self, probabilities: np.ndarray) -> tuple[str, float, tuple[str, ...]]:
        """(classes,) probabilities → intent, confidence and, for an abstention, the titles of the likeliest topics.

        The classifier abstains below its calibrated threshold.
        """
        names = [self.classifier.label_names[i] for i in np.argsort(-probabilities)]
        confidence = float(probabilities.max())
        if confidence >= self.classifier.artifact.threshold:
            return names[0], confidence, ()
        topics = [name for name in names if name not in SMALL_TALK]
        return ABSTAINED, confidence, tuple(self._title(topic) for topic in topics[:2])

    def _decide_in_context(
        self, pending: PendingChat, alone: tuple[str, float, tuple[str, ...]]
    ) -> tuple[str, float, tuple[str, ...]]:
        """Classify the message together with the turn before it, and keep the clearer of the two decisions."""
        try:
            turns = self.memory.recent(pending.customer_id, CONTEXT)
        except StoreError:
            return alone
        before = next((turn for turn in turns if turn.conversation_id == pending.conversation_id), None)
        if before is None:
            return alone
        message = mask(f"{before.user_message} {pending.message}")[-MAX_MESSAGE_CHARACTERS:]
        together = self._decide(self._encoder.submit(message).result().probabilities)
        _, confidence, alternatives = together
        return together if not alternatives and confidence > alone[1] else alone

    def _title(self, intent: str) -> str:
        article = self._knowledge.get(intent)
        return article.title if article else f"Your {intent.replace('_', ' ')}"

    def _recall(self, pending_chats: Sequence[PendingChat]) -> list[list[Match]]:
        """For each chat the customer's nearest earlier messages; none, and `unavailable` is set, if memory fails."""
        queries = [(pending.customer_id, pending.encoded.result().vector) for pending in pending_chats]
        failed: tuple[str, ...] = ()
        try:
            recalled = self.memory.recall(queries, RECALLED)
        except StoreError as error:
            logger.error("the memory cannot be searched, so the replies do not use earlier messages: %s", error)
            recalled, failed = [[] for _ in pending_chats], ("memory",)
        for pending in pending_chats:
            pending.unavailable = failed
        return recalled

    def _look_up(self, pending: PendingChat, matches: list[Match]) -> Facts:
        """The facts that the reply may state, for this customer only."""
        intent, customer_id = pending.intent, pending.customer_id
        count = wanted_count(pending.message, TRANSACTIONS)
        hand_over = intent == "human_agent" or bool(pending.alternatives)
        facts = Facts(
            message=pending.message,
            intent=intent,
            article=self._knowledge.get(intent),
            accounts=self.ledger.accounts(customer_id) if intent in LEDGER_INTENTS else (),
            transactions=self.ledger.transactions(customer_id, count) if intent == "recent_transactions" else (),
            alternatives=pending.alternatives,
            earlier=_related(matches, intent, hand_over=hand_over),
        )
        pending.end_stage("retrieve")
        return facts

    def _encode(self, messages: list[str]) -> list[Encoded]:
        """One encoder pass for a few messages."""
        began = time.perf_counter()
        scores = self.classifier.score(messages)
        # A token has at least one character. Beyond its limit the classifier truncates text that memory still reads.
        longest = max(map(len, messages)) + SPECIAL_TOKENS
        vectors = scores.base_embeddings if self._shares_embedding else None
        if vectors is None or longest > self.classifier.artifact.max_length:
            vectors = self.memory.embedder.encode(messages, share=False)  # the rows themselves hold these vectors
        ended = time.perf_counter()
        return [
            Encoded(probabilities, vector, began, scores.tokenise_s, ended)
            for probabilities, vector in zip(scores.probabilities, vectors, strict=True)
        ]


def is_text(message: str) -> bool:
    """Whether a message is valid Unicode. JSON's escapes can also encode one half of a surrogate pair."""
    try:
        message.encode()
    except UnicodeEncodeError:
        return False
    return True


def model_name(artifact: ClassifierConfig) -> str:
    """For replies and metrics, e.g. `all-MiniLM-L6-v2+probe`. A base model in a folder is named without its path."""
    return f"{base_models.resolve(artifact.base_model).name}+{artifact.method}"


def _same_embedding(classifier: Classifier, memory: VectorService) -> bool:
    """Whether classifier and memory give the same embedding for a text."""
    sha256 = classifier.artifact.base_sha256
    if not classifier.shares_base_embedding or sha256 is None:
        return False
    variant = f"+{classifier.variant}" if classifier.variant else ""
    return memory.embedder.model_id.endswith(f"@{sha256[:12]}{variant}")


def _related(matches: list[Match], intent: str, hand_over: bool) -> Match | None:
    """The nearest earlier message on the same topic: same intent or, if a person takes over, any intent."""
    for match in matches:
        topic = match.metadata["intent"]
        if match.score >= RELATED and topic not in SMALL_TALK and (hand_over or topic == intent):
            return replace(match, text=mask(match.text))  # a reply quotes it, and an old store may hold it unmasked
    return None
