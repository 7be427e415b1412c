"""Limits per client: the size of a request body, the time to receive it, and the request rate per customer."""

import asyncio
import contextlib
import math
import time

from fastapi import HTTPException
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bankllm.errors import UsageError
from bankllm.serving.auth import auth_enabled
from bankllm.serving.errors import problem
from bankllm.settings import Settings

MAX_BODY_BYTES = 128 * 1024
"""Enough for 32 messages of the maximum length, in any script and with every character escaped."""
BODY_S = 30.0
"""Time limit in seconds to receive a request body. It stops clients that hold a connection open with a slow body."""
TOO_LARGE = f"The request body is larger than {MAX_BODY_BYTES} bytes. Shorten the message, or send several requests."
TOO_SLOW = f"The request body was not received within {BODY_S:g} s. Retry, and send the whole body without pauses."
DEFAULT_RATE = "120/minute"


class BodyLimit:
    """Pure ASGI middleware: answers 413 to a body above `MAX_BODY_BYTES` and 408 to one slower than `BODY_S`.

    A large body is rejected before all of it is in memory.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            await _refusal(scope, 413, TOO_LARGE)(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + BODY_S
        received_bytes, complete = 0, False
        refusal: ASGIApp | None = None

        async def receive_limited() -> Message:
            nonlocal received_bytes, complete, refusal
            if complete:  # the only message after the body is the client's disconnect
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                refusal = _refusal(scope, 408, TOO_SLOW)
                return {"type": "http.disconnect"}
            received_bytes += len(message.get("body", b""))
            if received_bytes > MAX_BODY_BYTES:
                refusal = _refusal(scope, 413, TOO_LARGE)
                return {"type": "http.disconnect"}
            complete = not message.get("more_body", False)
            return message

        async def send_unless_refused(message: Message) -> None:
            if refusal is None:
                await send(message)

        try:
            await self.app(scope, receive_limited, send_unless_refused)
        finally:
            if refusal is not None:
                await refusal(scope, receive, send)


def _refusal(scope: Scope, status: int, detail: str) -> ASGIApp:
    return problem(scope, status, detail, headers={"Connection": "close"})


class RateLimit:
    """Request rate per customer, measured in a moving window. Each worker process counts separately."""

    def __init__(self, settings: Settings) -> None:
        """Raises `UsageError` for an invalid rate."""
        self._rate = parse_rate_limit(settings)
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def check(self, customer_id: str) -> None:
        """Count one request of this customer. Above the rate, raise `HTTPException` 429 with `Retry-After` in s."""
        if self._rate is not None and not self._window.hit(self._rate, customer_id):
            # The time at which the oldest counted request leaves the window.
            free_at = self._window.get_window_stats(self._rate, customer_id).reset_time
            wait = max(1, math.ceil(free_at - time.time()))
            raise HTTPException(
                429,
                f"Rate limit exceeded: {self._rate}. Wait {wait} s, then try again.",
                {"Retry-After": str(wait)},
            )


def parse_rate_limit(settings: Settings) -> RateLimitItem | None:
    """The request rate per customer of the settings; None means no limit. Raises `UsageError` for an invalid rate.

    Without a setting the rate is `DEFAULT_RATE` with authentication, and unlimited without.
    """
    text = settings.rate_limit or (DEFAULT_RATE if auth_enabled(settings) else "off")
    if text == "off":
        return None
    with contextlib.suppress(ValueError):  # raised for an invalid rate and for more than one rate
        (rate,) = parse_many(text)
        if rate.amount > 0:
            return rate
    raise UsageError(f"BANKLLM_RATE_LIMIT is {text!r}. Expected one rate, such as 120/minute, or off.")
