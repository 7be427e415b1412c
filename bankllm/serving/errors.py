"""Errors as problem details for HTTP APIs (RFC 9457), and the middleware that counts and logs every request.

An error response tells the client what to correct. Internal details go only to the log, under the same request id.
"""

import logging
import random
import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bankllm.assistant.actions.proposals import ActionClosed, UnknownAction
from bankllm.assistant.bank.ledger import UnknownCustomer
from bankllm.assistant.batcher import Overloaded
from bankllm.errors import BankLLMError, LedgerError, StoreError, UsageError
from bankllm.telemetry.metrics import ServerMetrics, is_monitoring_route
from bankllm.util.redaction import mask

logger = logging.getLogger(__name__)
access = logging.getLogger("bankllm.access")

MEDIA_TYPE = "application/problem+json"
COMPONENT = "#/components/schemas/{model}"
OPENAI_PREFIX = "/v1"
"""Error responses of routes under this prefix also have the `error` object that OpenAI's clients read."""
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
DETAILS = {
    404: "There is no such path on this server. GET /openapi.json lists the paths.",
    405: "This path does not accept this method. The header Allow lists the methods that it accepts.",
}
"""Details for statuses that the router sets; its own detail only repeats the title."""
FAULTS = {
    "json_invalid": "the body is not valid JSON",
    "model_attributes_type": "expected a JSON object",
}
"""Details for pydantic's error types whose own text does not tell a client what to correct."""
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Fault(BaseModel):
    pointer: str
    """JSON Pointer (RFC 6901) into the request body, or the name of a parameter."""
    detail: str


class OpenAIError(BaseModel):
    """The `error` object from which OpenAI's clients build their exceptions."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None = None
    """JSON Pointer of the first invalid field."""
    code: str


class Problem(BaseModel):
    """A problem document. `type` is always `about:blank`, which means that the status code identifies the problem."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[Fault] = []
    error: OpenAIError | None = None
    """Only on the routes for OpenAI's clients."""


class Observe:
    """ASGI middleware: gives each request an id, counts and logs it, and answers exceptions that no handler answers.

    HEAD is answered as GET; the server does not send the body, as HTTP requires.
    The log line has no path, query, headers or body, because they can contain customer data.
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
        routed = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
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
            await self.app(routed, receive, send_with_id)
        except ClientDisconnect:
            pass  # the client has closed the connection, so no response can be sent
        except Exception as error:
            if status:  # the response has started, so an error response can no longer be sent
                raise
            await _response(scope, error)(scope, receive, send_with_id)
        finally:
            route = getattr(routed.get("route"), "path", "unmatched")
            # Without a status the client disconnected before the response started: 499, as in nginx.
            final_status, seconds = status or 499, time.perf_counter() - start
            # As OpenTelemetry's semantic conventions: made-up methods must not add series.
            method = scope["method"] if scope["method"] in METHODS else "_OTHER"
            self.metrics.observe_request(route, method, final_status, seconds)
            level = logging.DEBUG if is_monitoring_route(route) else logging.INFO
            if access.isEnabledFor(level):
                fields = {"request_id": request_id, "route": route, "method": method, "status": final_status}
                access.log(level, "request", extra=fields | {"duration_ms": round(1000 * seconds, 3)})


def openai_error(problem: Problem) -> OpenAIError:
    faults = [": ".join(filter(None, (fault.pointer, fault.detail))) for fault in problem.errors]
    return OpenAIError(
        message=" ".join([problem.detail, *faults]),
        type="invalid_request_error" if problem.status < 500 else "server_error",
        param=problem.errors[0].pointer if problem.errors else None,
        code=str(problem.status),
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route for its OpenAPI description: status → description and schema of the body."""
    content = {MEDIA_TYPE: {"schema": {"$ref": COMPONENT.format(model="Problem")}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


READ_REFUSED = documented(401, 403, 404, 422, 429, 431, 500, 503)
"""The error responses of a route of one customer."""
REFUSED = READ_REFUSED | documented(400, 408, 413, 415)
"""The error responses of a route that also reads a request body."""


def describe_problems(app: FastAPI) -> None:
    """Add the schemas of `documented` to the application's OpenAPI description."""
    describe = app.openapi

    def describe_with_problems() -> dict[str, Any]:
        document = describe()
        _, schemas = models_json_schema([(Problem, "serialization")], ref_template=COMPONENT)
        document["components"]["schemas"] |= schemas["$defs"]
        return document

    app.openapi = describe_with_problems  # type: ignore[method-assign]  # the way that FastAPI's manual documents


def install_handlers(app: FastAPI) -> None:
    async def handle(request: Request, error: Exception) -> JSONResponse:
        response = _response(request.scope, _unreadable_body(request.headers, error) or error)
        if response.status_code == 405:
            response.headers["Allow"] = ", ".join(_methods(app, request.scope))
        return response

    for kind in (HTTPException, RequestValidationError, BankLLMError):
        app.add_exception_handler(kind, handle)


def _unreadable_body(headers: Headers, error: Exception) -> HTTPException | None:
    """The reason in the request's headers, or in its bytes, why FastAPI could not read a JSON body; else None."""
    not_utf8 = isinstance(error, HTTPException) and isinstance(error.__cause__, UnicodeDecodeError)
    not_json = isinstance(error, RequestValidationError) and isinstance(error.body, str | bytes)
    if not (not_utf8 or not_json):
        return None
    if (coding := headers.get("content-encoding", "identity")) != "identity":
        detail = f"The header Content-Encoding is {coding}, but this server reads only uncompressed bodies. Omit it."
        return HTTPException(415, detail, {"Accept-Encoding": "identity"})
    if isinstance(error, RequestValidationError) and isinstance(error.body, bytes):
        sent = headers.get("content-type")
        found = f"The header Content-Type is {sent}" if sent else "The header Content-Type is missing"
        return HTTPException(415, f"{found}. Expected Content-Type: application/json.", {"Accept": "application/json"})
    return HTTPException(400, "The body is not valid UTF-8. Encode the JSON as UTF-8.") if not_utf8 else None


def problem_of(request_id: str, error: Exception) -> Problem:
    """The problem document that a client receives for an error. Internal details are only logged, here."""

    def problem(status: int, detail: str, errors: list[Fault] | None = None) -> Problem:
        title = HTTPStatus(status).phrase
        return Problem(title=title, status=status, detail=mask(detail), request_id=request_id, errors=errors or [])

    match error:
        case HTTPException():
            status, detail = error.status_code, error.detail
            return problem(status, DETAILS.get(status, detail) if detail == HTTPStatus(status).phrase else detail)
        case RequestValidationError():
            faults = [
                Fault(
                    pointer=_pointer(fault, error.body),
                    detail=mask(FAULTS.get(fault["type"], fault["msg"].removeprefix("Value error, "))),
                )
                for fault in error.errors()
            ]
            return problem(422, "The request is invalid; `errors` lists each fault.", faults)
        case UnknownCustomer():
            return problem(404, str(error))
        case UnknownAction():
            return problem(403, str(error))
        case ActionClosed():
            return problem(409, str(error))
        case Overloaded():
            return problem(503, str(error))
        case UsageError():
            return problem(422, str(error))
        case StoreError() | LedgerError():  # its message contains file names of the server, so it is only logged
            what = "bank's ledger" if isinstance(error, LedgerError) else "message store"
            logger.error("request %s: %s", request_id, error, extra={"request_id": request_id})
            return problem(503, f"The {what} is unavailable. Please try again later.")
    logger.error("request %s failed", request_id, exc_info=error, extra={"request_id": request_id})
    return problem(500, "Internal server error. The server log has the details under this request id.")


def _response(scope: Scope, error: Exception) -> JSONResponse:
    problem = problem_of(scope["state"]["request_id"], error)
    path = scope["path"].removeprefix(scope.get("root_path", ""))  # of `uvicorn --root-path`, behind a proxy
    if path.startswith(OPENAI_PREFIX + "/"):
        problem.error = openai_error(problem)
    headers = {"Retry-After": "1"} if isinstance(error, Overloaded) else getattr(error, "headers", None)
    return JSONResponse(problem.model_dump(exclude_none=True), problem.status, headers=headers, media_type=MEDIA_TYPE)


def _methods(app: FastAPI, scope: Scope) -> list[str]:
    """All methods that are allowed for this path. The router itself returns only those of the first matching route."""

    def allows(method: str) -> bool:
        return any(route.matches({**scope, "method": method})[0] is Match.FULL for route in app.routes)

    allowed = set(filter(allows, METHODS))
    return sorted({*allowed, "HEAD"} if "GET" in allowed else allowed)


def _pointer(fault: Mapping[str, Any], body: Any) -> str:
    """`("body", "message")` → `/message`; a parameter outside the body by its name; "" for a body that is not JSON.

    pydantic's location also names members of unions and positions in invalid JSON. They are omitted.
    """
    where, *parts = fault["loc"]
    if where != "body":
        return ".".join(map(str, fault["loc"]))
    pointer = ""
    for number, part in enumerate(parts, 1):
        if part in body if isinstance(body, dict) else isinstance(body, list) and isinstance(part, int):
            body = body[part]
        elif fault["type"] != "missing" or number < len(parts):
            continue
        pointer += f"/{part}"
    return pointer


def _request_id(headers: Headers) -> str:
    """The client's `x-request-id` if it is safe to log and is not an account number, otherwise a new id."""
    sent = headers.get("x-request-id", "")
    # Not `uuid4`: its system call releases the GIL, which costs 7 % of the event loop's time under load.
    return sent if REQUEST_ID.fullmatch(sent) and mask(sent) == sent else f"{random.getrandbits(128):032x}"
