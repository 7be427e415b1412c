"""Server-sent events, and clients that leave: what is computed only for a client ends when it disconnects.

    async with encoded(pending, request):
        ...
    return EventStream(generator_of_events, pending)

Starlette neither closes a generator when the client disconnects nor tells the thread that runs it.
"""

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from bankllm.assistant.turn import PendingChat


class EventStream(StreamingResponse):
    """A streaming response. The generator yields complete, formatted events (see `event`)."""

    # `media_type` is not a class attribute: FastAPI would then describe the whole stream as one string.

    def __init__(self, events: Generator[str], pending: PendingChat, status_code: int = 200) -> None:
        # FastAPI reads the default status code for the OpenAPI description from this signature.
        # nginx would otherwise collect the events and send them together.
        super().__init__(events, status_code, {"X-Accel-Buffering": "no"}, media_type="text/event-stream")
        self._events, self._pending = events, pending

    async def listen_for_disconnect(self, receive: Receive) -> None:
        await super().listen_for_disconnect(receive)
        self._pending.leave()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # No thread is running the generator now: a cancelled task waits until the current item is complete.
            self._events.close()


def event(kind: str, data: str) -> str:
    """Format one event. `data` is JSON and therefore contains no line breaks."""
    return f"event: {kind}\ndata: {data}\n\n"


@asynccontextmanager
async def encoded(pending: PendingChat, request: Request) -> AsyncIterator[None]:
    """Wait for the encoder. If the client disconnects before, raise `ClientDisconnect`; inside the block, end what is
    generated for it.
    """
    done = asyncio.wrap_future(pending.encoded)
    left = asyncio.ensure_future(_disconnected(request))

    def leave(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            pending.leave()

    try:
        await asyncio.wait((done, left), return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise ClientDisconnect
        left.add_done_callback(leave)
        yield
    finally:
        left.cancel()
        done.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
