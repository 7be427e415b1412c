"""The chat engine: one pass of the encoder tells the intent and, where it can, finds earlier messages too.

with ChatEngine.load(None, Path("memory.sqlite"), get_settings()) as engine:
    engine.chat("What is my account balance?", "CUST001").reply
"""

import logging
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
from bankllm.assistant.turn import ChatReply, Decided, Decision, Draft, Encoded, PendingChat, Stopwatch
from bankllm.assistant.wording.llm import make_responder
from bankllm.assistant.wording.template import Facts, Reply, Responder, TemplateResponder
from bankllm.errors import ModelError, StoreError, UsageError
from bankllm.model import base_models
from bankllm.model.artifact import Classifier, ClassifierConfig
from bankllm.settings import Settings
from bankllm.util.redaction import mask
from bankllm.vectors.pinecone.replicated import ReplicatedStore
from bankllm.vectors.rows import Match
from bankllm.vectors.service import Message, Turn, VectorService, open_service

logger = logging.getLogger(__name__)

DEFAULT_ADAPTER = Path(__file__).parents[1] / "data" / "assistant"
LEDGER_INTENTS = frozenset({"account_balance", "account_details", "recent_transactions"})
SMALL_TALK = frozenset({"goodbye", "greeting", "human_agent", "out_of_scope"})
ABSTAINED = "out_of_scope"
MAX_MESSAGE_CHARACTERS = 2000
STORE_WAIT_S = 3.0
"""For a memory that others use. A chat asks it twice, a follow-up three times, and answers without it: a customer
waits, and so do all whose turns come after."""
RECALLED = 5
"""How many of the customer's nearest earlier messages are looked at."""
SPECIAL_TOKENS = 2
"""Around a text: [CLS] and [SEP]."""
TRANSACTIONS = 5
"""Listed where the customer does not say how many."""
LETTERS = str.maketrans("0123456789", "ghijklmnop")
"""For a new conversation's id: without digits it cannot read as an account number."""
CONTEXT = 20
"""Of the customer's latest turns, in which the conversation's last one is looked for."""
CLEAR = 0.8
"""Confidence from which even a message worded as a follow-up is read by itself."""
RELATED = 0.6
"""Cosine from which an earlier message counts as being about the same thing."""


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
        """`encoder_threads` passes of the classifier run at once.

        Raises `ModelError` if the classifier knows an intent that nothing here answers.
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
        """Hears how many messages each pass of the encoder has; for metrics."""
        self.observe_reply: Callable[[ChatReply], None] = lambda reply: None
        """Hears each reply once it is complete, whatever route asked for it; for metrics."""

    @classmethod
    def load(
        cls, adapter: Path | None, store_path: Path | None, settings: Settings, responder: str | None = None
    ) -> Self:
        """Load an adapter (None: the packaged one), a memory (None: lost on `close`), a responder (None: the
        settings'), and warm up.

        Raises `ModelError` or `StoreError` where one of them is missing or damaged, `UsageError` for the responder.
        """
        words = make_responder(responder or settings.responder, settings)
        classifier, threads = load_classifier(adapter or DEFAULT_ADAPTER, settings)
        embedder = shared_embedder(classifier, settings)
        memory = open_service(store_path, settings, embedder=embedder, wait_s=STORE_WAIT_S)
        try:
            engine = cls(classifier, memory, Ledger(), words, threads)
            engine.embed(["warm up"])
        except BaseException:
            memory.close()
            raise
        return engine

    def chat(self, message: str, customer_id: str, conversation_id: str | None = None) -> ChatReply:
        """Answer one message; when this returns, the turn is in the customer's memory, account numbers masked.

        Raises `UsageError` for an empty or overlong message, `UnknownCustomer`, `Overloaded`, `StoreError` where
        the ledger fails. A memory that fails does not: see `ChatReply.unavailable`.
        """
        return self.finish(self.begin(message, customer_id, conversation_id))

    def begin(self, message: str, customer_id: str, conversation_id: str | None = None) -> PendingChat:
        """Check a message and hand it to the encoder, without waiting. Raises as `chat` does."""
        if not message.strip() or len(message) > MAX_MESSAGE_CHARACTERS:
            raise UsageError(
                f"A message takes 1 to {MAX_MESSAGE_CHARACTERS} characters, not only spaces; got {len(message)}."
            )
        if not is_text(message):
            raise UsageError("The message holds half of a surrogate pair, which is no character. Send valid Unicode.")
        if conversation_id and mask(conversation_id) != conversation_id:
            raise UsageError(
                "The conversation_id reads as an account number. Send the id of an earlier reply, or none."
            )
        message = mask(message)
        self.ledger.require(customer_id)
        return PendingChat(message, customer_id, conversation_id, self._encoder.submit(message))

    def finish(self, pending: PendingChat) -> ChatReply:
        """Wait for the encoder, look the facts up, word the reply and keep the turn."""
        return [item for item in self._answer(pending, streamed=False) if isinstance(item, ChatReply)][-1]

    def stream(self, pending: PendingChat) -> Iterator[str | ChatReply]:
        """The reply in pieces as they are worded, and the whole of it last.

        Where that one's `fallback` is set, its text replaces the pieces. A turn that nobody waited for to its end is
        not kept.
        """
        return self._answer(pending, streamed=True)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) vectors under which memory would keep these texts, account numbers masked. Raises `Overloaded`."""
        jobs = [self._encoder.submit(mask(text)) for text in texts]
        return np.stack([job.done.result().vector for job in jobs])

    def finish_together(self, pending_chats: Sequence[PendingChat]) -> list[ChatReply | Exception | None]:
        """`finish` for several at once, in a fraction of the time: their turns share one commit.

        For each what `finish` gives or raises; None, and nothing done, where only `finish` itself can answer without
        holding up the others. Raises what memory says of an argument that does not fit, and then has kept nothing.
        """
        done: list[ChatReply | Exception | None] = [None] * len(pending_chats)
        decided: dict[int, Decided] = {}
        worded: dict[int, tuple[Draft, Reply]] = {}
        for number, pending in enumerate(pending_chats):
            try:
                if (decision := self._decided(pending, together=True)) is not None:
                    decided[number] = decision
            except Exception as error:  # noqa: BLE001  whatever it is, the one who asked gets it
                done[number] = error
        recalled, unavailable = self._recall(list(decided.values()))
        for (number, each), matches in zip(decided.items(), recalled, strict=True):
            try:
                draft = self._draft(each, matches, unavailable)
                worded[number] = draft, self.responder.respond(draft.facts)
            except Exception as error:  # noqa: BLE001
                done[number] = error
        for number, reply in zip(worded, self._keep(list(worded.values())), strict=True):
            done[number] = reply
        return done

    @property
    def answers_together(self) -> bool:
        """Whether `finish_together` does anything: nothing that it asks may make it wait for another machine."""
        return isinstance(self.responder, TemplateResponder) and not isinstance(self.memory.store, ReplicatedStore)

    def _answer(self, pending: PendingChat, streamed: bool) -> Iterator[str | ChatReply]:
        decided = self._decided(pending)
        assert decided is not None  # alone, each can be
        (matches,), unavailable = self._recall([decided])
        draft = self._draft(decided, matches, unavailable)
        for item in self.responder.stream(draft.facts) if streamed else [self.responder.respond(draft.facts)]:
            if isinstance(item, str):
                yield item
            else:
                yield from self._keep([(draft, item)])

    def _decided(self, pending: PendingChat, *, together: bool = False) -> Decided | None:
        """What a message is about; `together`: None where that takes another pass of the encoder."""
        encoded = pending.job.done.result()
        clock = Stopwatch(pending)
        decision = self._decide(encoded.probabilities)
        unclear = decision.alternatives or (decision.confidence < CLEAR and is_follow_up(pending.message))
        if pending.conversation_id and unclear:
            if together:
                return None
            decision = self._decide_in_context(pending, decision)
        clock.lap("classify")
        return Decided(pending, encoded.vector, decision, clock)

    def _keep(self, worded: Sequence[tuple[Draft, Reply]]) -> list[ChatReply]:
        """Keep the turns by one commit, account numbers masked, and say what was answered."""
        turns = []
        for draft, reply in worded:
            pending, decision, vector = draft.decided.pending, draft.decided.decision, draft.decided.vector
            conversation_id = pending.conversation_id or uuid.uuid4().hex.translate(LETTERS)
            message = Message(pending.message, mask(reply.text), decision.intent, conversation_id)
            turns.append(Turn(pending.customer_id, message, vector))
        lost: tuple[str, ...] = ()
        try:
            self.memory.store_turns(turns)
        except StoreError as error:
            logger.error("answered and not kept (turns: %d): %s", len(turns), error)
            lost = ("storing",)
        return [
            self._reply(draft, reply, turn.message.conversation_id, lost)
            for (draft, reply), turn in zip(worded, turns, strict=True)
        ]

    def _reply(self, draft: Draft, worded: Reply, conversation_id: str, lost: tuple[str, ...]) -> ChatReply:
        decision, clock = draft.decided.decision, draft.decided.clock
        clock.lap("respond")
        reply = ChatReply(
            reply=worded.text,
            intent=decision.intent,
            confidence=decision.confidence,
            sources=worded.sources,
            responder=worded.responder,
            fallback=worded.fallback,
            unavailable=(*draft.unavailable, *lost),
            model=self.model,
            conversation_id=conversation_id,
            latency_ms=clock.latency(),
        )
        self.observe_reply(reply)
        return reply

    def describe(self) -> dict[str, str]:
        """What answers, in a few words; for metrics."""
        return {
            "model": self.model,
            "base_sha256": (self.classifier.artifact.base_sha256 or "")[:12],
            "intents": str(len(self.classifier.label_names)),
            "embedding": self.memory.embedder.model_id,
            "responder": self.responder.name,
        }

    @property
    def waiting(self) -> int:
        """Messages that wait for the encoder now, about."""
        return self._encoder.waiting

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

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decide(self, probabilities: np.ndarray) -> Decision:
        """(classes,) probabilities → the likeliest intent or, below the calibrated threshold, an abstention."""
        names = [self.classifier.label_names[i] for i in np.argsort(-probabilities)]
        confidence = float(probabilities.max())
        if confidence >= self.classifier.artifact.threshold:
            return Decision(names[0], confidence, ())
        topics = [name for name in names if name not in SMALL_TALK]
        return Decision(ABSTAINED, confidence, tuple(self._title(topic) for topic in topics[:2]))

    def _decide_in_context(self, pending: PendingChat, alone: Decision) -> Decision:
        """Read a message as the continuation of the one before it, where that makes it clearer."""
        try:
            turns = self.memory.recent(pending.customer_id, CONTEXT)
        except StoreError:
            return alone
        before = next((turn for turn in turns if turn.conversation_id == pending.conversation_id), None)
        if before is None:
            return alone
        message = mask(f"{before.user_message} {pending.message}")[-MAX_MESSAGE_CHARACTERS:]
        together = self._decide(self._encoder.submit(message).done.result().probabilities)
        return together if not together.alternatives and together.confidence > alone.confidence else alone

    def _title(self, intent: str) -> str:
        article = self._knowledge.get(intent)
        return article.title if article else f"Your {intent.replace('_', ' ')}"

    def _recall(self, decided: Sequence[Decided]) -> tuple[list[list[Match]], tuple[str, ...]]:
        """For each what its customer wrote before, and what did not answer."""
        try:
            return self.memory.recall([(each.pending.customer_id, each.vector) for each in decided], RECALLED), ()
        except StoreError as error:
            logger.error("answering without memory: %s", error)
            return [[] for _ in decided], ("memory",)

    def _draft(self, decided: Decided, matches: list[Match], unavailable: tuple[str, ...]) -> Draft:
        """Look up, for this customer alone, what a reply may rest on."""
        pending, decision = decided.pending, decided.decision
        intent, customer_id = decision.intent, pending.customer_id
        count = wanted_count(pending.message, TRANSACTIONS)
        facts = Facts(
            message=pending.message,
            intent=intent,
            article=self._knowledge.get(intent),
            accounts=self.ledger.accounts(customer_id) if intent in LEDGER_INTENTS else (),
            transactions=self.ledger.transactions(customer_id, count) if intent == "recent_transactions" else (),
            alternatives=decision.alternatives,
            earlier=_related(matches, intent, hand_over=intent == "human_agent" or bool(decision.alternatives)),
        )
        decided.clock.lap("retrieve")
        return Draft(decided, facts, unavailable)

    def _encode(self, messages: list[str]) -> list[Encoded]:
        """One pass for a few messages."""
        scores = self.classifier.score(messages)
        # A token is a character at least. Beyond its limit the classifier drops text that memory would still read.
        longest = max(map(len, messages)) + SPECIAL_TOKENS
        vectors = scores.base_embeddings if self._shares_embedding else None
        if vectors is None or longest > self.classifier.artifact.max_length:
            vectors = self.memory.embedder.encode(messages, share=False)  # each turn is kept with its vector
        return [Encoded(*row, scores.tokenise_s) for row in zip(scores.probabilities, vectors, strict=True)]


def is_text(message: str) -> bool:
    """Whether a message is Unicode throughout; JSON's escapes can also write half of a character."""
    try:
        message.encode()
    except UnicodeEncodeError:
        return False
    return True


def model_name(artifact: ClassifierConfig) -> str:
    """For responses and metrics, e.g. `all-MiniLM-L6-v2+probe`; a base model's folder is named without its path."""
    return f"{base_models.resolve(artifact.base_model).name}+{artifact.method}"


def _same_embedding(classifier: Classifier, memory: VectorService) -> bool:
    """Whether classifier and memory turn a text into the same vector."""
    sha256 = classifier.artifact.base_sha256
    if not classifier.shares_base_embedding or sha256 is None:
        return False
    variant = f"+{classifier.variant}" if classifier.variant else ""
    return memory.embedder.model_id.endswith(f"@{sha256[:12]}{variant}")


def _related(matches: list[Match], intent: str, hand_over: bool) -> Match | None:
    """The nearest earlier message about the same thing: of the same intent or, where a person takes over, of any."""
    for match in matches:
        topic = match.metadata["intent"]
        if match.score >= RELATED and topic not in SMALL_TALK and (hand_over or topic == intent):
            return replace(match, text=mask(match.text))  # a reply quotes it, and an older memory has it in clear
    return None
