"""The assistant in the shape of OpenAI's API, so that clients written for that one work.

    client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key=token)
    client.chat.completions.create(model="bankllm", messages=[...], user="CUST001")

The customer is the token's, as everywhere; without tokens (the demo) `user` names one. The messages' history is not
read: the assistant has a memory of its own. Options that choose how a model samples are taken and have no effect.
"""

import base64
import json
import time
from collections.abc import Callable, Generator
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from bankllm.assistant.engine import MAX_MESSAGE_CHARACTERS, ChatEngine
from bankllm.assistant.turn import ChatReply, PendingChat
from bankllm.serving.auth import require_same_customer
from bankllm.serving.errors import OPENAI_PREFIX, REFUSALS, OpenAIProblem, documented, openai_error, problem_of
from bankllm.serving.limits import RateLimit
from bankllm.serving.sse import EventStream

MAX_INPUTS = 64
"""Texts of one request for embeddings."""
CORRECTION = "\n\nI have to correct myself. "
REFUSED = documented(*REFUSALS, shape=OpenAIProblem)

Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_MESSAGE_CHARACTERS)]


class Part(BaseModel):
    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | list[Part] | None, Field(max_length=32 * 1024)] = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    include_usage: bool = False


class CompletionRequest(BaseModel):
    """Of OpenAI's fields, those that mean something here; the others are passed over."""

    model: str = ""
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=256)]
    user: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1


class EmbeddingRequest(BaseModel):
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Taken where it is what the vectors have; they cannot be shortened."""


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int


class Answer(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    index: Literal[0] = 0
    message: Answer
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class Completion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """base64: little-endian float32."""


class EmbeddingList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: Literal["bankllm"] = "bankllm"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


def openai_routes(current: Callable[[], ChatEngine], customer_of: Callable[..., Any], limit: RateLimit) -> APIRouter:
    """`/v1/models`, `/v1/embeddings` and `/v1/chat/completions`."""
    router = APIRouter(prefix=OPENAI_PREFIX, tags=["OpenAI's shape"])
    Customer = Annotated[str | None, Depends(customer_of)]

    @router.get("/models", responses=documented(401, 403, 500, 503, shape=OpenAIProblem))
    async def models(customer: Customer) -> ModelList:
        return ModelList(data=[Model(id=current().model)])

    @router.post("/embeddings", responses=REFUSED)
    async def embeddings(body: EmbeddingRequest, customer: Customer) -> EmbeddingList:
        if customer is not None:
            limit.check(customer)
        engine, texts = current(), [body.input] if isinstance(body.input, str) else body.input
        if body.dimensions not in (None, engine.memory.embedder.dim):
            raise HTTPException(
                422, f"dimensions is {body.dimensions}. Expected {engine.memory.embedder.dim}, or none."
            )
        vectors = await run_in_threadpool(engine.embed, texts)
        data = [
            Embedding(index=index, embedding=_encoded(vector, body.encoding_format))
            for index, vector in enumerate(vectors)
        ]
        tokens = engine.classifier.count_tokens(texts)
        return EmbeddingList(data=data, model=engine.model, usage=Usage(prompt_tokens=tokens, total_tokens=tokens))

    @router.post(
        "/chat/completions",
        response_model=Completion,
        responses=REFUSED | {200: {"content": {"text/event-stream": {}}}},
    )
    async def completions(body: CompletionRequest, request: Request, customer: Customer) -> Completion | EventStream:
        """Answers the last message, which must be the user's."""
        whose = body.user or customer
        if whose is None:
            raise HTTPException(422, "user is missing. Without tokens it says whose accounts are meant, e.g. CUST001.")
        if body.messages[-1].role != "user":
            raise HTTPException(422, "The last message is not the user's, so there is nothing to answer.")
        require_same_customer(customer, whose)
        limit.check(whose)
        engine = current()
        pending = engine.begin(body.messages[-1].text(), whose)
        name, created = f"chatcmpl-{request.state.request_id}", int(time.time())
        if body.stream:
            chunks = _chunks(engine, pending, name, created, body, request.state.request_id)
            return EventStream(chunks)
        reply = await run_in_threadpool(engine.finish, pending)
        choice = Choice(message=Answer(content=reply.reply))
        usage = _usage(engine, pending.message, reply.reply)
        return Completion(id=name, created=created, model=engine.model, choices=[choice], usage=usage)

    return router


def _chunks(
    engine: ChatEngine, pending: PendingChat, name: str, created: int, body: CompletionRequest, request_id: str
) -> Generator[str]:
    """Server-sent events as OpenAI sends them. What was shown cannot be taken back there: a template that has to
    stand in for the rest follows as a correction."""

    def chunk(choices: list[dict[str, Any]], usage: Usage | None = None) -> str:
        sent = {"id": name, "object": "chat.completion.chunk", "created": created, "model": engine.model}
        return f"data: {json.dumps(sent | {'choices': choices, 'usage': usage and usage.model_dump()})}\n\n"

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
    except Exception as error:  # noqa: BLE001  the status is sent; OpenAI's clients raise on an event with `error`
        fault = problem_of(request_id, error)
        yield f"data: {json.dumps({'error': openai_error(fault).model_dump()})}\n\n"


def _usage(engine: ChatEngine, message: str, reply: str) -> Usage:
    asked, answered = (engine.classifier.count_tokens([text]) for text in (message, reply))
    return Usage(prompt_tokens=asked, completion_tokens=answered, total_tokens=asked + answered)


def _encoded(vector: np.ndarray, encoding_format: str) -> list[float] | str:
    if encoding_format == "float":
        return [float(number) for number in vector]
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
