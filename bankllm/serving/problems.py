"""Request ids, and errors all in one form: problem details for HTTP APIs (RFC 9457).

A caller learns what to put right; what went wrong inside goes to the log, under the same request id.
"""

import logging
import re
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bankllm.errors import StoreError, UsageError
from bankllm.serving.batcher import Overloaded
from bankllm.serving.ledger import UnknownCustomer
from bankllm.telemetry.metrics import ServerMetrics

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""Of every response: answers are a customer's own, so nothing between keeps them."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Fault(BaseModel):
    """One field that does not fit."""

    pointer: str
    """JSON Pointer (RFC 6901) into the request's body, or the parameter's name."""
    detail: str


class Problem(BaseModel):
    """A problem document. `type` is `about:blank`: the status code says what kind of problem it is."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[Fault] = []


class Observe:
    """Pure ASGI middleware: gives every request an id, counts and times it, answers what nobody caught.

    It stands outside the exception handlers, so that a request that fails is counted and answered alike.
    """

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            if status:  # the reply has begun, nothing can be put right
                raise
            logger.exception("request %s failed", request_id)
            response = problem(request_id, 500, "Something went wrong here; the log has it under this request id.")
            await response(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            # No status: the client left before there was one (499, as nginx counts it).
            self.metrics.observe_request(route, scope["method"], status or 499, time.perf_counter() - start)


def problem(
    request_id: str,
    status: int,
    detail: str,
    errors: list[Fault] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response for a problem."""
    body = Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, request_id=request_id, errors=errors or []
    )
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problem responses for a route's OpenAPI description."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install_handlers(app: FastAPI) -> None:
    """Answer refused requests and the library's own errors as problems. The rest is for the middleware."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return problem(request.state.request_id, error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [Fault(pointer=_pointer(fault["loc"]), detail=fault["msg"]) for fault in error.errors()]
        return problem(request.state.request_id, 422, "The request does not fit; see errors.", faults)

    @app.exception_handler(UnknownCustomer)
    async def unknown_customer(request: Request, error: UnknownCustomer) -> JSONResponse:
        return problem(request.state.request_id, 404, str(error))

    @app.exception_handler(Overloaded)
    async def overloaded(request: Request, error: Overloaded) -> JSONResponse:
        return problem(request.state.request_id, 503, str(error), headers={"Retry-After": "1"})

    @app.exception_handler(UsageError)
    async def unusable(request: Request, error: UsageError) -> JSONResponse:
        return problem(request.state.request_id, 422, str(error))

    @app.exception_handler(StoreError)
    async def store_failed(request: Request, error: StoreError) -> JSONResponse:
        # The message names files of the server.
        logger.error("request %s: %s", request.state.request_id, error)
        return problem(request.state.request_id, 503, "The assistant's memory does not answer. Try again later.")


def _pointer(location: tuple[int | str, ...]) -> str:
    """`("body", "message")` → `/message`; other parameters and a body that is not JSON by name."""
    if location[0] == "body":
        # In a body that is not JSON, pydantic gives the character's position in place of a field.
        return "".join(f"/{part}" for part in location[1:] if isinstance(part, str))
    return ".".join(map(str, location))


def _request_id(headers: Headers) -> str:
    """The caller's own id where it is fit for a log, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
