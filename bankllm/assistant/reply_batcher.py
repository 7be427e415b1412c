"""Chats that wait to be finished are finished together, in one thread and with one commit.

This takes about half of the time of one thread per chat, which wait for each other at every lock. While `AT_ONCE`
batches are finished, further chats wait for the next one; a single chat is not delayed. A chat that needs another pass
of the encoder, or the language model, is tried again before the chats that came later.
"""

import asyncio

from anyio.to_thread import run_sync

from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.turn import ChatReply, PendingChat

AT_ONCE = 2
"""One batch computes while another waits for its commit."""
MAX_BATCH = 16
Waiting = tuple[PendingChat, asyncio.Future[ChatReply | None]]
"""None: only `ChatEngine.finish` can answer this chat."""


class ReplyBatcher:
    def __init__(self) -> None:
        self._ready: list[Waiting] = []
        self._running: set[asyncio.Task[None]] = set()

    async def finish(self, engine: ChatEngine, pending: PendingChat) -> ChatReply:
        """Returns or raises what `engine.finish` returns or raises."""
        if engine.answers_together:
            future: asyncio.Future[ChatReply | None] = asyncio.get_running_loop().create_future()
            self._queue(engine, (pending, future))
            if (reply := await future) is not None:
                return reply
        return await run_sync(engine.finish, pending)

    def _queue(self, engine: ChatEngine, chat: Waiting, again: bool = False) -> None:
        self._ready.insert(0 if again else len(self._ready), chat)
        # Runs after the callbacks of all chats whose encoder results came with this one.
        asyncio.get_running_loop().call_soon(self._start, engine)

    def _start(self, engine: ChatEngine) -> None:
        if not self._ready or len(self._running) >= AT_ONCE:
            return
        batch, self._ready = self._ready[:MAX_BATCH], self._ready[MAX_BATCH:]
        task = asyncio.ensure_future(self._finish(engine, batch))
        self._running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            self._start(engine)

        task.add_done_callback(ended)

    async def _finish(self, engine: ChatEngine, batch: list[Waiting]) -> None:
        replies: list[ChatReply | Exception | None]
        failed = False
        try:
            replies = await run_sync(engine.finish_together, [pending for pending, _ in batch])
        except Exception:  # noqa: BLE001  one chat caused it and nothing was stored: each is finished by itself
            replies, failed = [None] * len(batch), True
        for chat, reply in zip(batch, replies, strict=True):
            if chat[1].done():  # the client has disconnected
                continue
            if isinstance(reply, Exception):
                chat[1].set_exception(reply)
            elif reply is None and not failed:
                waits = asyncio.gather(*map(asyncio.wrap_future, chat[0].waits_for), return_exceptions=True)
                waits.add_done_callback(lambda _, chat=chat: self._queue(engine, chat, again=True))  # type: ignore[misc]
            else:
                chat[1].set_result(reply)
