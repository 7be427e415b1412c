"""The assistant behind an OpenAI-compatible API, for clients that are written for OpenAI's API.

    client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key=token)
    client.chat.completions.create(model="bankllm", messages=[...], user="CUST001")

The token identifies the customer, as on all other routes. Without authentication (the demo) `user` is the customer id.
Only the last message is read: earlier turns come from the assistant's own memory, not from `messages`. Sampling
options such as `temperature` are accepted and have no effect, and null means that an optional field is absent.
OpenAI's reference describes the responses.
"""

import base64
import json
import time
from collections.abc import Callable, Generator
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.turn import MAX_MESSAGE_CHARACTERS, ChatReply, PendingChat, Rights
from bankllm.errors import UsageError
from bankllm.serving.auth import ACTIONS_SCOPE, AccessToken, ReadToken
from bankllm.serving.errors import OPENAI_PREFIX, READ_REFUSED, REFUSED, openai_error, problem_of
from bankllm.serving.limits import RateLimit
from bankllm.serving.sse import EventStream, encoded

MAX_INPUTS = 2048
"""Texts per embeddings request, as in OpenAI's API."""
QUEUED_INPUTS = 64
"""Texts of one embeddings request that wait for the encoder together, so that chats can be answered in between."""
CORRECTION = "\n\nI have to correct myself. "

Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_MESSAGE_CHARACTERS)]


def _as_parts(content: object) -> object:
    if content is None or isinstance(content, list):
        return content
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    raise ValueError("expected text, or a list of text parts")


def _as_list(texts: object) -> object:
    items = texts if isinstance(texts, list) else [texts]
    if any(isinstance(item, int | list) for item in items):
        raise ValueError("expected texts, found token ids; in LangChain, set check_embedding_ctx_length=False")
    return items


def _without_history(messages: object) -> object:
    """Remove the content of all messages but the last, because it is not read: it may be long, or an image."""
    if not isinstance(messages, list):
        return messages
    return [m | {"content": None} if isinstance(m, dict) else m for m in messages[:-1]] + messages[-1:]


def _none_of_the_clients(tools: list[Any] | None) -> list[Any] | None:
    if tools:
        raise ValueError("expected no tools: the assistant calls only its own tools, which /mcp offers; omit the field")
    return tools


class Part(BaseModel):
    type: Literal["text"]
    text: Annotated[str, StringConstraints(max_length=MAX_MESSAGE_CHARACTERS)]


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[list[Part] | None, BeforeValidator(_as_parts, Any)] = None
    """Text, or a list of text parts. Read only in the last message."""

    def text(self) -> str:
        return "\n".join(part.text for part in self.content or ())


Messages = Annotated[list[ChatMessage], Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]


NoTools = Annotated[list[Any] | None, AfterValidator(_none_of_the_clients)]
"""The assistant would not call the tools of a client, so they are refused and not ignored."""


class StreamOptions(BaseModel):
    include_usage: bool | None = False


class CompletionRequest(BaseModel):
    """The fields of OpenAI's request that have an effect here. Other fields are ignored."""

    model: str | None = None
    messages: Annotated[Messages, BeforeValidator(_without_history, Messages)]
    user: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = 1
    tools: NoTools = None
    functions: NoTools = None


class EmbeddingRequest(BaseModel):
    input: Annotated[Texts, BeforeValidator(_as_list, Text | Texts)]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Accepted only if it equals the dimension of the vectors, because the vectors cannot be shortened."""


def openai_routes(current: Callable[[], ChatEngine], token: ReadToken, limit: RateLimit) -> APIRouter:
    router = APIRouter(prefix=OPENAI_PREFIX, tags=["OpenAI-compatible API"])
    Given = Annotated[AccessToken, Depends(token)]

    def served_model() -> dict[str, Any]:
        return {"id": current().model, "object": "model", "created": 0, "owned_by": "bankllm"}

    @router.get("/models", summary="List the served model", responses=READ_REFUSED)
    async def models(given: Given) -> dict[str, Any]:
        return {"object": "list", "data": [served_model()]}

    @router.get("/models/{model:path}", summary="Describe the served model", responses=READ_REFUSED)
    async def model(model: str, given: Given) -> dict[str, Any]:
        """404 for every other name, although requests may give any name as their model."""
        if model != current().model:
            raise HTTPException(404, f"There is no model {model}. This server has only {current().model}.")
        return served_model()

    @router.post("/embeddings", summary="Embed one or more texts", responses=REFUSED)
    async def embeddings(body: EmbeddingRequest, request: Request, given: Given) -> dict[str, Any]:
        if given.customer_id is not None:
            limit.check(given.customer_id)
        engine, texts = current(), body.input
        if body.dimensions not in (None, engine.memory.embedder.dim):
            expected = f"Expected {engine.memory.embedder.dim}. You can also omit the field."
            raise await _invalid(request, f"dimensions is {body.dimensions}. {expected}", "dimensions")
        parts = [
            await run_in_threadpool(engine.embed, texts[start : start + QUEUED_INPUTS])
            for start in range(0, len(texts), QUEUED_INPUTS)
        ]
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(np.concatenate(parts))
        ]
        tokens = engine.classifier.count_tokens(texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": engine.model, "usage": usage}

    @router.post(
        "/chat/completions",
        summary="Answer the last message",
        response_model=dict[str, Any],
        responses=REFUSED | {200: {"content": {"text/event-stream": {}}}},
    )
    async def completions(body: CompletionRequest, request: Request, given: Given) -> dict[str, Any] | EventStream:
        """The last message must have the role `user`. Earlier ones are not read: the assistant has its own memory.

        An action can be proposed here, but not confirmed.
        """
        customer_id = body.user or given.customer_id
        if customer_id is None:
            missing = "user is missing. This server has no authentication, so user must be a customer id, e.g. CUST001."
            raise await _invalid(request, missing, "user")
        last = len(body.messages) - 1
        if body.messages[last].role != "user":
            wrong = "The last message does not have the role user. Send the customer's message last."
            raise await _invalid(request, wrong, "messages", last, "role")
        limit.admit(given, customer_id)
        engine = current()
        rights: Rights = "propose" if given.permits(ACTIONS_SCOPE) else "read"
        try:
            pending = engine.begin(body.messages[last].text(), customer_id, rights=rights)
        except UsageError as error:
            raise await _invalid(request, str(error), "messages", last, "content") from error
        name, created = f"chatcmpl-{request.state.request_id}", int(time.time())
        async with encoded(pending, request):
            reply = None if body.stream else await engine.reply(pending)
        if reply is None:
            return EventStream(_chunks(engine, pending, name, created, body, request.state.request_id), pending)
        message = {"role": "assistant", "content": reply.reply, "refusal": None}
        fields = {"id": name, "object": "chat.completion", "created": created, "model": engine.model}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return fields | {"choices": [choice], "usage": _usage(engine, pending.message, reply.reply)}

    return router


async def _invalid(request: Request, detail: str, *where: str | int) -> RequestValidationError:
    """The error for a value that a client must correct, at `where` in the body."""
    fault = {"type": "missing", "loc": ("body", *where), "msg": detail}
    return RequestValidationError([fault], body=await request.json())


def _chunks(
    engine: ChatEngine, pending: PendingChat, name: str, created: int, body: CompletionRequest, request_id: str
) -> Generator[str]:
    """Server-sent events in OpenAI's format.

    OpenAI's protocol cannot replace text that has already been sent. If the template replaces a language model's reply
    midway, its text is therefore sent after `CORRECTION`. An exception becomes an event with an `error` object.
    """

    def chunk(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> str:
        fields = {"id": name, "object": "chat.completion.chunk", "created": created, "model": engine.model}
        return f"data: {json.dumps(fields | {'choices': choices, 'usage': usage})}\n\n"

    def delta(content: dict[str, str], finish_reason: str | None = None) -> str:
        return chunk([{"index": 0, "delta": content, "finish_reason": finish_reason}])

    try:
        yield delta({"role": "assistant", "content": ""})
        shown = ""
        for item in engine.stream(pending):
            if isinstance(item, ChatReply):
                reply = item
            else:
                shown += item
                yield delta({"content": item})
        if shown != reply.reply:
            yield delta({"content": CORRECTION + reply.reply})
        yield delta({}, "stop")
        if body.stream_options and body.stream_options.include_usage:
            yield chunk([], _usage(engine, pending.message, reply.reply))
        yield "data: [DONE]\n\n"
    except Exception as error:  # noqa: BLE001  the status is already sent; OpenAI's clients raise on `error`
        problem = problem_of(request_id, error)
        yield f"data: {json.dumps({'error': openai_error(problem).model_dump()})}\n\n"


def _usage(engine: ChatEngine, message: str, reply: str) -> dict[str, int]:
    prompt, completion = (engine.classifier.count_tokens([text]) for text in (message, reply))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _encoded(vector: np.ndarray, encoding_format: str | None) -> list[float] | str:
    if encoding_format != "base64":
        return [float(number) for number in vector]
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
