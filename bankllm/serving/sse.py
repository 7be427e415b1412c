"""Server-sent events, and a streaming response that closes its generator when the client disconnects.

    return EventStream(generator_of_events)

Starlette does not close a generator when the client disconnects: a language model would continue to generate.
"""

from collections.abc import Generator

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class EventStream(StreamingResponse):
    """A streaming response. The generator yields complete, formatted events (see `event`)."""

    # `media_type` is not a class attribute: FastAPI would then describe the whole stream as one string.

    def __init__(self, events: Generator[str], status_code: int = 200) -> None:
        # FastAPI reads the default status code for the OpenAPI description from this signature.
        # nginx would otherwise collect the events and send them together.
        super().__init__(events, status_code, {"X-Accel-Buffering": "no"}, media_type="text/event-stream")
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # No thread is running the generator now: a cancelled task waits until the current item is complete.
            self._events.close()


def event(kind: str, data: str) -> str:
    """Format one event. `data` is JSON and therefore contains no line breaks."""
    return f"event: {kind}\ndata: {data}\n\n"
