"""A small server that implements enough of OpenAI's chat protocol for the real client.

It answers with the text `says`, word by word. Faults can be configured: `statuses` returns error statuses,
`stalls_after` pauses in the middle of a reply, `body` returns an invalid response.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bankllm.util.processes import free_port


class OpenAIServer:
    """Runs in a thread on 127.0.0.1. A context manager that can be entered repeatedly, always with the same port."""

    def __init__(self, says: str = "") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.says = says
        self.finish_reason: str | None = "stop"
        self.statuses: list[int] = []
        """Statuses of the next responses, in order; then 200."""
        self.stalls_after: int | None = None
        """Number of pieces before it pauses; None for no pause, and to end one."""
        self.stall_s = 3.0
        self.body: str | None = None
        """A body that is sent instead of a stream of chunks."""
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []

    def __enter__(self) -> Self:
        app = Starlette(routes=[Route("/v1/chat/completions", self._chat, methods=["POST"])])
        config = uvicorn.Config(app, port=self.port, log_level="critical", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the test server did not start"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _chat(self, request: Request) -> Response:
        self.requests.append(await request.json())
        self.keys.append(request.headers["authorization"])
        status = self.statuses.pop(0) if self.statuses else 200
        if status != 200:
            return JSONResponse({"error": {"message": "secret detail of the server"}}, status)
        if self.body is not None:
            return Response(self.body, media_type="text/html")
        return StreamingResponse(self._chunks(), media_type="text/event-stream")

    async def _chunks(self) -> AsyncIterator[str]:
        words = self.says.split(" ")
        for number, word in enumerate(words):
            ends_s = time.monotonic() + self.stall_s
            while number == self.stalls_after and time.monotonic() < ends_s:
                await asyncio.sleep(0.01)
            yield _chunk({"content": word + (" " if number < len(words) - 1 else "")}, None)
        if self.finish_reason:
            yield _chunk({}, self.finish_reason)
            yield "data: [DONE]\n\n"


def _chunk(delta: dict[str, str], finish_reason: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n"
