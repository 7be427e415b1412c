"""Request ids, and errors all in one form: problem details for HTTP APIs (RFC 9457).

A caller learns what to put right; what went wrong inside goes to the log, under the same request id.
"""

import logging
import re
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bankllm.assistant.bank.ledger import UnknownCustomer
from bankllm.assistant.batcher import Overloaded
from bankllm.errors import StoreError, UsageError
from bankllm.telemetry.metrics import METHODS, ServerMetrics, is_upkeep
from bankllm.util.redaction import mask

logger = logging.getLogger(__name__)
access = logging.getLogger("bankllm.access")

MEDIA_TYPE = "application/problem+json"
COMPONENT = "#/components/schemas/{model}"
OPENAI_PREFIX = "/v1"
"""Under it a problem also says what OpenAI's clients look for."""
REFUSALS = (400, 401, 403, 404, 408, 413, 422, 429, 500, 503)
"""With which a route that reads a customer's body may answer."""
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


class OpenAIError(BaseModel):
    """Where OpenAI's clients look for the words of their exceptions."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    """JSON Pointer of the first field that does not fit."""
    code: str


class OpenAIProblem(Problem):
    """The problem document of the routes in OpenAI's shape."""

    error: OpenAIError


class Observe:
    """Pure ASGI middleware: gives every request an id, counts, times and logs it, answers what nobody caught.

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
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception as error:
            if status:  # the reply has begun, nothing can be put right
                raise
            await _response(scope, problem_of(request_id, error))(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            # No status: the client left before there was one (499, as nginx counts it).
            answered, seconds = status or 499, time.perf_counter() - start
            self.metrics.observe_request(route, scope["method"], answered, seconds)
            _log_request(request_id, route, scope["method"], answered, seconds)


def problem(scope: Scope, status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response for a problem of this request."""
    return _response(scope, _problem(scope["state"]["request_id"], status, detail), headers)


def openai_error(problem: Problem) -> OpenAIError:
    """A problem in the words that OpenAI's clients show."""
    faults = [f"{fault.pointer}: {fault.detail}" for fault in problem.errors]
    return OpenAIError(
        message=" ".join([problem.detail, *faults]),
        type="invalid_request_error" if problem.status < 500 else "server_error",
        param=problem.errors[0].pointer if problem.errors else None,
        code=str(problem.status),
    )


def documented(*statuses: int, shape: type[Problem] = Problem) -> dict[int | str, dict[str, Any]]:
    """Problem responses for a route's OpenAPI description."""
    content = {MEDIA_TYPE: {"schema": {"$ref": COMPONENT.format(model=shape.__name__)}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def describe_problems(app: FastAPI) -> None:
    """Put into the application's OpenAPI description what `documented` refers to."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        shapes: list[tuple[type[BaseModel], JsonSchemaMode]] = [(s, "serialization") for s in (Problem, OpenAIProblem)]
        document = describe()
        document["components"]["schemas"] |= models_json_schema(shapes, ref_template=COMPONENT)[1]["$defs"]
        return document

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's manual has it


def install_handlers(app: FastAPI) -> None:
    """Answer refused requests and the library's own errors as problems. The rest is for the middleware."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        headers = error.headers if isinstance(error, HTTPException) else None
        if isinstance(error, Overloaded):
            headers = {"Retry-After": "1"}
        if isinstance(error, HTTPException) and error.status_code == 405:
            headers = {"Allow": ", ".join(_methods(app, request.scope))}
        return _response(request.scope, problem_of(request.state.request_id, error), headers)

    for kind in (HTTPException, RequestValidationError, UnknownCustomer, Overloaded, UsageError, StoreError):
        app.add_exception_handler(kind, refused)


def problem_of(request_id: str, error: Exception) -> Problem:
    """What a caller learns of an error. What only the log may know is logged here."""
    match error:
        case HTTPException():
            return _problem(request_id, error.status_code, str(error.detail))
        case RequestValidationError():
            faults = [
                Fault(pointer=mask(_pointer(fault["loc"])), detail=mask(fault["msg"])) for fault in error.errors()
            ]
            return _problem(request_id, 422, "The request does not fit; see errors.", faults)
        case UnknownCustomer():
            return _problem(request_id, 404, str(error))
        case Overloaded():
            return _problem(request_id, 503, str(error))
        case UsageError():
            return _problem(request_id, 422, str(error))
        case StoreError():  # its message names files of the server
            logger.error("request %s: %s", request_id, error, extra={"request_id": request_id})
            return _problem(request_id, 503, "What the assistant keeps does not answer. Try again later.")
    logger.error("request %s failed", request_id, exc_info=error, extra={"request_id": request_id})
    return _problem(request_id, 500, "Something went wrong here; the log has it under this request id.")


def _problem(request_id: str, status: int, detail: str, errors: list[Fault] | None = None) -> Problem:
    title = HTTPStatus(status).phrase
    return Problem(title=title, status=status, detail=mask(detail), request_id=request_id, errors=errors or [])


def _response(scope: Scope, problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    if scope["path"].startswith(OPENAI_PREFIX + "/"):
        problem = OpenAIProblem(**dict(problem), error=openai_error(problem))
    return JSONResponse(problem.model_dump(), problem.status, headers=headers, media_type=MEDIA_TYPE)


def _methods(app: FastAPI, scope: Scope) -> list[str]:
    """What may be asked of this path; the router names the methods of the first route alone."""
    return [
        method
        for method in sorted(METHODS)
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in app.routes)
    ]


def _log_request(request_id: str, route: str, method: str, status: int, seconds: float) -> None:
    """The line of one request. Never its path, query, headers or body: those can hold what is the customer's."""
    level = logging.DEBUG if is_upkeep(route) else logging.INFO
    if access.isEnabledFor(level):
        fields = {
            "request_id": request_id,
            "route": route,
            "method": method if method in METHODS else "_OTHER",
            "status": status,
            "duration_ms": round(1000 * seconds, 3),
        }
        access.log(level, "request", extra=fields)


def _pointer(location: tuple[int | str, ...]) -> str:
    """`("body", "message")` → `/message`; other parameters and a body that is not JSON by name."""
    if location[0] == "body":
        # In a body that is not JSON, pydantic gives the character's position in place of a field.
        return "".join(f"/{part}" for part in location[1:] if isinstance(part, str))
    return ".".join(map(str, location))


def _request_id(headers: Headers) -> str:
    """The caller's own id where it is fit for a log and no account number, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) and mask(given) == given else uuid.uuid4().hex
