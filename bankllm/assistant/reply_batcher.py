"""Exchanges whose encodings come at the same time are finished together, in one thread and with one commit.

    reply = await reply_batcher.finish(engine, pending)

A pass of the encoder ends for up to eight messages at once. A thread for each would wait for the others at every lock
and every look into the store; together they take about half of the time. Nobody waits for company.
"""

import asyncio

from anyio.to_thread import run_sync

from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.turn import ChatReply, PendingChat

Answer = asyncio.Future[ChatReply | None]


class ReplyBatcher:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._ready: list[tuple[PendingChat, Answer]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def finish(self, engine: ChatEngine, pending: PendingChat) -> ChatReply:
        """What `engine.finish` gives or raises."""
        if engine.answers_together:
            answer: Answer = asyncio.get_running_loop().create_future()
            self._ready.append((pending, answer))
            if len(self._ready) == 1:
                # After those whose encodings came with this one's.
                asyncio.get_running_loop().call_soon(self._start, engine)
            if (reply := await answer) is not None:
                return reply
        return await run_sync(engine.finish, pending)

    def _start(self, engine: ChatEngine) -> None:
        ready, self._ready = self._ready, []
        task = asyncio.ensure_future(_finish(engine, ready))
        self._under_way.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._under_way.discard)


async def _finish(engine: ChatEngine, ready: list[tuple[PendingChat, Answer]]) -> None:
    answers: list[ChatReply | Exception | None]
    try:
        answers = await run_sync(engine.finish_together, [pending for pending, _ in ready])
    except Exception:  # noqa: BLE001  one of them is at fault, and nothing was kept: by itself it hears of it
        answers = [None] * len(ready)
    for (_, waiting), answer in zip(ready, answers, strict=True):
        if waiting.done():  # the client has left
            continue
        if isinstance(answer, Exception):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)
