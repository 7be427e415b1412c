"""How much one caller may ask: bytes in a body, the time it takes to come, and requests of one customer in a time."""

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
"""Room for the longest message, or 32 of them, in any script and with every character escaped."""
BODY_S = 30.0
"""Within which a body must have come: a client that sends it byte by byte does not hold its connection for ever."""
TOO_LARGE = f"The body is larger than {MAX_BODY_BYTES} bytes. Shorten the message or send several requests."
TOO_SLOW = f"The body did not come within {BODY_S:g} s. Send the request again, at once."
DEFAULT_RATE = "120/minute"


class BodyLimit:
    """Pure ASGI middleware: refuses a body beyond `MAX_BODY_BYTES` (413) or `BODY_S` (408), before it is in memory."""

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
        until = asyncio.get_running_loop().time() + BODY_S
        seen, whole = 0, False
        refusal: ASGIApp | None = None

        async def receive_limited() -> Message:
            nonlocal seen, whole, refusal
            if whole:  # what comes now is that the client has left
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                refusal = _refusal(scope, 408, TOO_SLOW)
                return {"type": "http.disconnect"}
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:
                refusal = _refusal(scope, 413, TOO_LARGE)
                return {"type": "http.disconnect"}
            whole = not message.get("more_body", False)
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
    """So many requests of one customer in a moving window; each worker process counts for itself."""

    def __init__(self, settings: Settings) -> None:
        """Raises `UsageError` for a rate that cannot be read."""
        self._rate = wanted_rate(settings)
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def check(self, customer_id: str) -> None:
        """Count a request of this customer's; 429 beyond the rate."""
        if self._rate is not None and not self._window.hit(self._rate, customer_id):
            # When the oldest request that counts leaves the window.
            free_at = self._window.get_window_stats(self._rate, customer_id).reset_time
            wait = max(1, math.ceil(free_at - time.time()))
            raise HTTPException(429, f"More than {self._rate}. Wait and try again.", {"Retry-After": str(wait)})


def wanted_rate(settings: Settings) -> RateLimitItem | None:
    """The rate of the settings, None for off. Raises `UsageError` for one that cannot be read."""
    wanted = settings.rate_limit or (DEFAULT_RATE if auth_enabled(settings) else "off")
    if wanted == "off":
        return None
    with contextlib.suppress(ValueError):  # also for several rates
        (rate,) = parse_many(wanted)
        if rate.amount > 0:
            return rate
    raise UsageError(f"BANKLLM_RATE_LIMIT is {wanted!r}. Expected one rate, such as 120/minute, or off.")
