"""Server-sent events, and a response of them that ends with its reader.

    return EventStream(generator_of_events)

Starlette takes the items of a plain generator from a thread, and forgets the generator when the client leaves: until
the garbage collector finds it, a language model writes on for nobody. Here it is closed at once.
"""

from collections.abc import Generator

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class EventStream(StreamingResponse):
    """Sends a generator's events, each in its finished form, as they come."""

    media_type = "text/event-stream"

    def __init__(self, events: Generator[str]) -> None:
        super().__init__(events)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # No thread is in it: a cancelled task waits for the item that is being made.
            self._events.close()


def event(kind: str, data: str) -> str:
    """An event of a kind. `data` is JSON, so it has no line breaks."""
    return f"event: {kind}\ndata: {data}\n\n"
