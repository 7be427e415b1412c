"""Server-sent events, and a response of them that ends with its reader.

    return EventStream(generator_of_events)

Starlette takes the items of a plain generator from a thread, and forgets the generator when the client leaves: until
the garbage collector finds it, a language model writes on for nobody. Here it is closed at once.
"""

from collections.abc import Generator
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class EventStream(StreamingResponse):
    """Sends a generator's events, each in its finished form, as they come.

    It has no media type of its class, for which FastAPI would describe the whole stream as one string.
    """

    def __init__(self, events: Generator[str], status_code: int = 200) -> None:
        # FastAPI reads the status of its description from this signature.
        super().__init__(events, status_code, media_type="text/event-stream")
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


def described_events(**kinds: dict[str, Any]) -> dict[str, Any]:
    """The schema of one event, for OpenAPI (3.2 calls it `itemSchema`), from that of each kind's data."""

    def one(kind: str, data: dict[str, Any]) -> dict[str, Any]:
        text = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
        properties = {"event": {"const": kind}, "data": text}
        return {"type": "object", "properties": properties, "required": ["event", "data"]}

    return {"oneOf": [one(kind, data) for kind, data in kinds.items()]}
