"""The chat routes: one message, a stream, and what memory stores about a customer.

`POST /api/v1/chat`, `POST /api/v1/chat/stream`, `GET` and `DELETE /api/v1/customers/{customer_id}/memory`.
"""

import json
from collections.abc import Callable, Generator
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.turn import MAX_MESSAGE_CHARACTERS, ChatReply, PendingChat, Rights
from bankllm.serving.auth import ACTIONS_SCOPE, AccessToken, ReadToken
from bankllm.serving.errors import READ_REFUSED, REFUSED, problem_of
from bankllm.serving.limits import RateLimit
from bankllm.serving.sse import EventStream, encoded, event
from bankllm.vectors.sqlite.deletion import Receipt

CustomerId = Annotated[str, Field(min_length=1, max_length=128)]


class ChatRequest(BaseModel):
    message: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_MESSAGE_CHARACTERS)]
    customer_id: CustomerId
    conversation_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    """The id from an earlier reply, to continue that conversation; without it a new conversation begins."""


class StoredTurn(BaseModel):
    message_id: str
    created_at: str
    """ISO 8601, UTC."""
    user_message: str
    assistant_response: str
    intent: str
    conversation_id: str = ""
    question: str = ""
    """What the reply asked back, as JSON."""
    calls: str = ""
    """The look-ups that the reply showed, as JSON."""


class CustomerData(BaseModel):
    customer_id: str
    messages: list[StoredTurn]


def chat_routes(current: Callable[[], ChatEngine], token: ReadToken, limit: RateLimit) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["chat"])
    Given = Annotated[AccessToken, Depends(token)]

    def begin(body: ChatRequest, request: Request, given: AccessToken) -> PendingChat:
        limit.admit(given, body.customer_id)
        rights: Rights = "confirm" if given.permits(ACTIONS_SCOPE) else "read"
        return current().begin(body.message, body.customer_id, body.conversation_id, request.state.request_id, rights)

    @router.post("/chat", summary="Answer one message", response_model=ChatReply, responses=REFUSED)
    async def chat(body: ChatRequest, request: Request, given: Given) -> Response:
        pending = begin(body, request, given)
        async with encoded(pending, request):
            reply = await current().reply(pending)
        # As FastAPI would serialise the model, without a second validation.
        return Response(reply.model_dump_json(), media_type="application/json")

    @router.post(
        "/chat/stream",
        summary="Answer one message as a stream",
        response_class=EventStream,
        responses=REFUSED | {200: {"content": {"text/event-stream": {}}}},
    )
    async def stream(body: ChatRequest, request: Request, given: Given) -> EventStream:
        """The reply as it is generated: `token` events with `{"text": …}`, then one `reply` event with the reply of
        `/api/v1/chat`, or one `error` event with a problem document.
        """
        pending = begin(body, request, given)
        async with encoded(pending, request):
            pass

        def events() -> Generator[str]:
            try:
                for item in current().stream(pending):
                    if isinstance(item, str):
                        yield event("token", json.dumps({"text": item}))
                    else:
                        yield event("reply", item.model_dump_json())
            except Exception as error:  # noqa: BLE001  the status is already sent, so the error follows as an event
                problem = problem_of(request.state.request_id, error)
                yield event("error", problem.model_dump_json(exclude_none=True))

        return EventStream(events(), pending)

    path = "/customers/{customer_id}/memory"

    @router.get(path, summary="Read a customer's memory", responses=READ_REFUSED)
    def read_memory(customer_id: CustomerId, given: Given) -> CustomerData:
        """All that memory stores about this customer, oldest first."""
        limit.admit(given, customer_id)
        messages = [StoredTurn(**turn) for turn in current().export(customer_id)]
        return CustomerData(customer_id=customer_id, messages=messages)

    @router.delete(path, summary="Delete a customer's memory", responses=READ_REFUSED)
    def delete_memory(customer_id: CustomerId, given: Given) -> Receipt:
        """Delete all that memory stores about this customer. The receipt says where the data was and when each place
        is cleared. A second call deletes nothing and is no error.
        """
        limit.admit(given, customer_id)
        return current().forget(customer_id, asked_by="api")

    return router
