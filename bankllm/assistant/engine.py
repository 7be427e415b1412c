"""The chat engine: a customer's message in, a reply with its sources out.

An encoder pass gives the intent and, if the classifier is a head on the base model, the embedding. The message is then
understood as tool calls (`understand`), code turns their words into values, each tool looks up facts, a responder words
them (`respond`), and the engine stores the turn.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Self
from weakref import WeakSet

import numpy as np
from anyio.to_thread import run_sync

from bankllm.assistant import runtime, turn_memory
from bankllm.assistant.actions.proposals import ActionDesk
from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.assistant.bank.ledger import Bank, open_bank
from bankllm.assistant.bank.tools import Call
from bankllm.assistant.batcher import Batcher
from bankllm.assistant.caller import Caller
from bankllm.assistant.care.languages import language_reply
from bankllm.assistant.conversation import understand
from bankllm.assistant.conversation.reading import Understanding
from bankllm.assistant.decision import check_intents, related
from bankllm.assistant.handover import HandOverDesk
from bankllm.assistant.language.language_engine import needs_engine, shared_engine
from bankllm.assistant.language.language_model import language_understanding
from bankllm.assistant.respond import BETWEEN, hands_over, run, summary, worded
from bankllm.assistant.turn import ChatReply, Encoded, NotYet, PendingChat, Rights, checked
from bankllm.assistant.wording.responder import Responder, make_responder
from bankllm.model.artifact import Classifier
from bankllm.settings import Settings, get_settings
from bankllm.util.redaction import mask
from bankllm.util.text import random_id
from bankllm.vectors.rows import Match
from bankllm.vectors.service import VectorService, open_service
from bankllm.vectors.sqlite.deletion import AskedBy, Receipt

MAX_PASS, MAX_WAITING = 8, 256
"""Texts per encoder pass, and texts that wait for one. Larger passes do not increase the texts per second, of which a
few hundred are encoded, so that the last one waits about a second."""
MAX_FINISHED, FINISHERS = 16, 2
"""Chats that are finished together, and threads for it: one computes while the other waits for its commit."""
STORE_WAIT_S = 3.0
"""Timeout per call when other processes share the store. A chat makes at most three calls."""


class ChatEngine:
    """Answers messages, from any number of threads. Owns its memory and bank: `close` closes them."""

    def __init__(
        self,
        classifier: Classifier,
        memory: VectorService,
        bank: Bank,
        responder: Responder,
        encoder_threads: int = 1,
        settings: Settings | None = None,
    ) -> None:
        """`encoder_threads`: parallel encoder passes. Raises `ModelError` if no tool answers one of the intents."""
        settings = settings or get_settings()
        self.classifier, self.memory, self.bank, self.responder = classifier, memory, bank, responder
        self.model = runtime.model_name(classifier.artifact)
        self._timeout_s = settings.reply_timeout_s
        self._callers: WeakSet[Caller] = WeakSet()
        check_intents(classifier.label_names)
        model = language_understanding(settings)
        self.language = shared_engine(settings) if needs_engine(settings) else None
        ledger = bank if isinstance(bank, SQLiteBank) else None
        self.actions = ActionDesk(ledger, settings) if ledger else None
        self.handovers = HandOverDesk(ledger, settings) if ledger else None
        self.understanding = Understanding(bank, memory.embedder, classifier.artifact, settings, model, self.actions)
        encode = runtime.chat_encoder(classifier, memory.embedder)
        self._encoder = Batcher(encode, MAX_PASS, encoder_threads, MAX_WAITING, lambda size: self.observe_batch(size))
        self._finisher = Batcher(self.finish_together, MAX_FINISHED, FINISHERS)
        self.observe_batch: Callable[[int], None] = lambda size: None
        """Called with the number of messages of each encoder pass; for metrics."""
        self.observe_reply: Callable[[ChatReply], None] = lambda reply: None
        """Called with each complete reply, from every route; for metrics."""
        self.observe_first_word: Callable[[str, float], None] = lambda responder, seconds: None
        """Called with each reply's responder, and the time to its first words; for metrics."""
        self._no_message = self._encoder.submit(".")
        """Stands for the earlier messages of a new conversation."""
        self._no_message.result()

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Load the parts that the settings name, and run one warm-up pass. Without `store`, `close` loses the memory.

        Raises `ModelError`, `StoreError` or `LedgerError` if one of them is missing or damaged, `UsageError` for an
        unknown responder or bank.
        """
        responder = make_responder(settings.responder, settings)
        bank = open_bank(settings.ledger, settings)
        classifier, threads = runtime.load_classifier(settings.adapter or runtime.DEFAULT_ADAPTER, settings)
        embedder = runtime.memory_embedder(classifier, settings)
        memory = open_service(settings.store, settings, embedder=embedder, wait_s=STORE_WAIT_S)
        try:
            engine = cls(classifier, memory, bank, responder, threads, settings)
            engine.embed(["warm up"])
            language_reply("warm up, please", {})
            _ = engine.understanding.articles
            return engine
        except BaseException:
            memory.close()
            raise

    def chat(self, message: str, customer_id: str, conversation_id: str | None = None) -> ChatReply:
        """Answer one message, and store the turn with account numbers masked.

        Raises `UsageError` for an empty or overlong message, `UnknownCustomer`, `Overloaded`, and `LedgerError` if the
        bank fails. If memory fails, the chat still gets a reply; see `ChatReply.unavailable`.
        """
        return self.finish(self.begin(message, customer_id, conversation_id))

    def begin(
        self,
        message: str,
        customer_id: str,
        conversation_id: str | None = None,
        request_id: str = "",
        rights: Rights = "confirm",
    ) -> PendingChat:
        """Check a message and queue it for the encoder, without waiting. Raises as `chat` does."""
        message = checked(message, conversation_id)
        self.bank.require(customer_id)
        caller = Caller(customer_id, self._timeout_s)
        self._callers.add(caller)
        return PendingChat(
            message=message,
            customer_id=customer_id,
            conversation_id=conversation_id or random_id(),
            continues=bool(conversation_id),
            request_id=request_id,
            rights=rights,
            encoded=self._encoder.submit(message),
            caller=caller,
        )

    def call(self, call: Call, customer_id: str, rights: Rights = "propose") -> tuple[str, PendingChat]:
        """Run one tool call of another program, whose arguments are the customer's words. No turn is stored.

        Returns the text, and a chat with the `calls` that were run, the `question` and the `pending_action`.

        Raises `UnknownCustomer`, and `LedgerError` if the bank fails.
        """
        self.bank.require(customer_id)
        pending = PendingChat("", customer_id, random_id(), False, "", Future(), rights=rights)
        pending.items = understand.ready(self.understanding, call, customer_id)
        parts = run(pending, self.bank, self.actions, None)
        return BETWEEN.join(facts.text for _, facts in parts), pending

    async def reply(self, pending: PendingChat) -> ChatReply:
        """`finish` for an event loop. Chats that wait for it are finished together, if possible.

        That takes about half of the time of one thread per chat, which wait for each other at every lock. A chat that
        needs another pass or the language model is tried again before later ones.
        """
        if self.responder.waits or self.memory.store.remote:  # each chat waits for a long time
            return await run_sync(self.finish, pending)
        reply = await asyncio.wrap_future(self._finisher.submit(pending))
        while reply is None:
            await asyncio.gather(*map(asyncio.wrap_future, pending.waits_for), return_exceptions=True)
            reply = await asyncio.wrap_future(self._finisher.submit(pending, first=True))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def finish(self, pending: PendingChat) -> ChatReply:
        """`stream`, without the pieces."""
        return [item for item in self.stream(pending) if isinstance(item, ChatReply)][-1]

    def stream(self, pending: PendingChat) -> Iterator[str | ChatReply]:
        """Wait for the encoder, then yield the pieces of the reply as they are generated, and the whole `ChatReply`.

        If its `fallback` is set, its text replaces the pieces. A turn is stored only if the caller reads to the end.
        """
        self._understand(pending)
        (matches,) = turn_memory.recall(self.memory, [pending])
        yield from self._answer(pending, matches)
        yield from self._store([pending])

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) embeddings of texts, as memory stores them, with account numbers masked. Raises `Overloaded`."""
        futures = [self._encoder.submit(mask(text)) for text in texts]
        return np.stack([future.result().vector for future in futures])

    def finish_together(self, pending_chats: Sequence[PendingChat]) -> list[ChatReply | Exception | None]:
        """`finish` for several chats with one search and one commit, in a fraction of the time.

        Returns per chat what `finish` returns or raises; None if it needs another encoder pass or the language model:
        it can be given again when the futures that it `waits_for` are done. Raises `UsageError` for an argument that
        memory refuses, and then nothing is stored.
        """
        results: list[ChatReply | Exception | None] = [None] * len(pending_chats)
        classified: dict[int, PendingChat] = {}
        replied: dict[int, PendingChat] = {}
        for number, pending in enumerate(pending_chats):
            try:
                if self._understand(pending, together=True):
                    classified[number] = pending
            except Exception as error:  # noqa: BLE001  the caller of this chat gets any error
                results[number] = error
        recalled = turn_memory.recall(self.memory, list(classified.values()))
        for (number, pending), matches in zip(classified.items(), recalled, strict=True):
            try:
                list(self._answer(pending, matches))
                replied[number] = pending
            except Exception as error:  # noqa: BLE001
                results[number] = error
        for number, complete in zip(replied, self._store(list(replied.values())), strict=True):
            results[number] = complete
        return results

    def _understand(self, pending: PendingChat, *, together: bool = False) -> bool:
        """Wait for the encoder and set what is answered. With `together`, return False if it needs to wait again."""
        pending.may_wait = not together
        pending.wait()
        pending.needed |= {pending.message: pending.encoded, ".": self._no_message}

        def encode(texts: Sequence[str]) -> list[Encoded]:
            missing = [text for text in dict.fromkeys(texts) if text not in pending.needed]
            pending.needed |= {text: self._encoder.submit(mask(text)) for text in missing}
            return [pending.result(pending.needed[text]) for text in texts]

        try:
            pending.turns = turn_memory.turns_of(self.memory, pending)
            pending.items = understand.items(self.understanding, pending, encode)
        except NotYet:
            return False
        pending.end_stage("classify")
        return True

    def _store(self, replied: Sequence[PendingChat]) -> list[ChatReply]:
        """Store the turns with one commit; return the complete replies."""
        turn_memory.store(self.memory, replied)
        complete = [pending.complete(self.model) for pending in replied]
        for reply in complete:
            self.observe_reply(reply)
        return complete

    def describe(self) -> dict[str, str]:
        return {
            "model": self.model,
            "base_sha256": (self.classifier.artifact.base_sha256 or "")[:12],
            "intents": str(len(self.classifier.label_names)),
            "embedding": self.memory.embedder.model_id,
            "responder": self.responder.name,
            "understanding": self.understanding.model.name if self.understanding.model else "rules",
        }

    @property
    def waiting(self) -> int:
        """Approximate number of messages that wait for the encoder."""
        return self._encoder.waiting

    def export(self, customer_id: str) -> list[dict[str, str]]:
        """All stored turns of a customer, see `CustomerMemory.export`. Raises `UnknownCustomer`, `StoreError`."""
        self.bank.require(customer_id)
        return self.memory.for_user(customer_id).export()

    def forget(self, customer_id: str, asked_by: AskedBy = "library") -> Receipt:
        """Delete all stored turns of a customer, and return the receipt. Raises `UnknownCustomer`, `StoreError`."""
        self.bank.require(customer_id)
        return self.memory.for_user(customer_id).forget(asked_by=asked_by)

    def hurry(self) -> None:
        """Answer what is being answered without waiting longer for a language model."""
        for caller in list(self._callers):
            caller.set()

    def close(self) -> None:
        """Complete the queued chats, then close memory and ledger."""
        self._finisher.close()
        self._encoder.close()
        self.memory.close()
        self.bank.close()

    def _answer(self, pending: PendingChat, matches: list[Match]) -> Iterator[str]:
        """Run the calls, and yield the pieces of the reply; afterwards `pending.reply` is set."""
        parts = run(pending, self.bank, self.actions, related(matches, pending.decision))
        if self.handovers is not None and hands_over(pending):
            pending.handover_id = self.handovers.offer(*summary(pending))
        pending.end_stage("retrieve")
        first_s = 0.0
        for piece in worded(self.responder, parts):
            first_s = first_s or time.perf_counter() - pending.started
            if isinstance(piece, str):
                yield piece
            else:
                pending.reply = piece
                self.observe_first_word(piece.responder, first_s)
