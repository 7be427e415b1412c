"""Limits per client: the size of a request's headers and body, the time to receive it, and the rate per customer."""

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
from bankllm.serving.auth import AccessToken, auth_enabled
from bankllm.serving.local_requests import refuse_others
from bankllm.settings import Settings

MAX_HEADER_BYTES = 32 * 1024
"""Request target and headers together: four times the longest accepted token."""
MAX_BODY_BYTES = 128 * 1024
"""Enough for 32 messages of the maximum length, in any script and with every character escaped."""
BODY_S = 30.0  # to receive a request body
DEFAULT_RATE = "120/minute"


class RequestLimits:
    """ASGI middleware: 431 for large headers, 413 for a large body, 408 for a body slower than `BODY_S`.

    With `local_only`, also 403 as `local_requests` says.
    """

    def __init__(self, app: ASGIApp, local_only: bool) -> None:
        self.app, self.local_only = app, local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        header_bytes = len(scope["raw_path"]) + len(scope["query_string"])
        if header_bytes + sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            raise _refusal(431, f"The headers are larger than {MAX_HEADER_BYTES} bytes. Send fewer or shorter headers.")
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        if declared.isdigit():
            _check_body_size(int(declared))
        if declared and "transfer-encoding" in headers:  # a proxy could read another length (request smuggling)
            raise _refusal(400, "Content-Length and Transfer-Encoding are both set. Send only one of them.")
        if self.local_only:
            refuse_others(scope, headers)
        deadline = asyncio.get_running_loop().time() + BODY_S
        received_bytes, complete = 0, False

        async def receive_limited() -> Message:
            nonlocal received_bytes, complete
            if complete:  # the only message after the body is the client's disconnect
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                slow = f"The request body was not received within {BODY_S:g} s. Retry, and send it without pauses."
                raise _refusal(408, slow) from error
            received_bytes += len(message.get("body", b""))
            _check_body_size(received_bytes)
            complete = not message.get("more_body", False)
            return message

        await self.app(scope, receive_limited, send)


def _check_body_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise _refusal(413, f"The request body is larger than {MAX_BODY_BYTES} bytes. Shorten the message.")


def _refusal(status: int, detail: str) -> HTTPException:
    return HTTPException(status, detail, {"Connection": "close"})


class RateLimit:
    """Request rate per customer, measured in a moving window. Each worker process counts separately."""

    def __init__(self, settings: Settings) -> None:
        self._rate = parse_rate_limit(settings)
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def admit(self, token: AccessToken, customer_id: str) -> None:
        """Count a request for this customer. Raises `HTTPException` as `check`, and 403 for another customer's token.

        The 403 is the same whether the requested customer exists or not.
        """
        if token.customer_id not in (None, customer_id):
            raise HTTPException(403, "The token does not give access to that customer.")
        self.check(customer_id)

    def check(self, customer_id: str) -> None:
        """Count one request of this customer. Above the rate, raise `HTTPException` 429 with `Retry-After` in s."""
        if self._rate is not None and not self._window.hit(self._rate, customer_id):
            # The time at which the oldest counted request leaves the window.
            free_at = self._window.get_window_stats(self._rate, customer_id).reset_time
            wait = max(1, math.ceil(free_at - time.time()))
            detail = f"Rate limit exceeded: {self._rate}. Wait {wait} s, then try again."
            raise HTTPException(429, detail, {"Retry-After": str(wait)})


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
