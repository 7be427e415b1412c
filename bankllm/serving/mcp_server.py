"""The assistant's tools for clients of the Model Context Protocol: `bankllm serve --mcp`, then http://HOST:PORT/mcp.

    async with mcp.Client("http://127.0.0.1:8000/mcp") as client:
        await client.call_tool("spending", {"category": "groceries", "period": "last month", "customer_id": "CUST001"})

Arguments are the customer's words, as in a chat. An acting tool makes a proposal; no tool confirms one: the customer
does, in the bank's own chat or with the button. The token identifies the customer; without tokens `customer_id` does.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from bankllm import __version__
from bankllm.assistant.actions.proposals import PLANS
from bankllm.assistant.bank.ledger import UnknownCustomer
from bankllm.assistant.bank.tools import call_schemas, checked_call
from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.turn import Rights
from bankllm.errors import UsageError
from bankllm.serving.auth import ACTIONS_SCOPE, AccessToken, ReadToken
from bankllm.serving.limits import RateLimit

PATH = "/mcp"
NOT_OFFERED = frozenset({"knowledge", "small_talk", "human_agent"})
"""Tools that answer a whole message; `ask` does."""
ASK = {
    "description": "Answer a customer's message, as in the bank's chat, from the accounts and the help articles.",
    "type": "object",
    "properties": {"message": {"type": "string", "minLength": 1, "maxLength": 2000}},
    "required": ["message"],
    "additionalProperties": False,
}


def mcp_routes(
    current: Callable[[], ChatEngine], token: ReadToken, limit: RateLimit, with_tokens: bool
) -> tuple[APIRouter, StreamableHTTPSessionManager]:
    """Return the route, and the manager that the application runs during its lifetime."""

    def tool(name: str, description: str, properties: dict[str, Any], required: list[str], **schema: Any) -> Tool:
        if not with_tokens:
            customer = {"type": "string", "description": "The customer's id, such as CUST001."}
            properties, required = properties | {"customer_id": customer}, [*required, "customer_id"]
        schema["properties"] = {key: value for key, value in properties.items() if key != "tool"}
        schema["required"] = [key for key in required if key != "tool"]
        hints = ToolAnnotations(read_only_hint=name not in PLANS and name != "ask", destructive_hint=False)
        return Tool(name=name, description=description, input_schema=schema, annotations=hints)

    schemas: dict[str, Any] = {"ask": ASK, **call_schemas()}
    tools = {name: tool(name, **schema) for name, schema in schemas.items() if name not in NOT_OFFERED}

    async def list_tools(context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=list(tools.values()))

    async def call_tool(context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        given: AccessToken = context.request.state.token  # type: ignore[union-attr]
        arguments = dict(params.arguments or {})
        try:
            if params.name not in tools:
                raise UsageError(f"There is no tool {params.name!r}. Expected one of: {', '.join(tools)}.")
            customer_id = given.customer_id or str(arguments.pop("customer_id", ""))
            limit.check(customer_id)
            rights: Rights = "propose" if given.permits(ACTIONS_SCOPE) else "read"
            text, data = await run_in_threadpool(answer, params.name, arguments, customer_id, rights)
        except (UsageError, UnknownCustomer) as error:
            return CallToolResult(content=[TextContent(text=str(error))], is_error=True)
        except HTTPException as error:
            return CallToolResult(content=[TextContent(text=str(error.detail))], is_error=True)
        return CallToolResult(content=[TextContent(text=text)], structured_content=data)

    def answer(name: str, arguments: dict[str, Any], customer_id: str, rights: Rights) -> tuple[str, dict[str, Any]]:
        engine = current()
        if name != "ask":
            text, done = engine.call(checked_call({"tool": name, **arguments}), customer_id, rights)
            calls = [call.model_dump(mode="json") for call in done.calls]
            question = {"slot": done.question.slot, "options": done.question.options} if done.question else None
            return text, {"calls": calls, "question": question, "pending_action": done.pending_action}
        if arguments.keys() != {"message"} or not isinstance(arguments["message"], str):
            raise UsageError("Expected the argument message, a text, and no other argument.")
        reply = engine.finish(engine.begin(arguments["message"], customer_id, rights=rights))
        return reply.reply, reply.model_dump(mode="json", include={"calls", "question", "pending_action"})

    server: Server[Any] = Server("bankllm", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)
    manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)
    router = APIRouter(include_in_schema=False)

    @router.api_route(PATH, methods=["GET", "POST", "DELETE"])
    async def handle(request: Request, given: Annotated[AccessToken, Depends(token)]) -> Response:
        request.state.token = given
        return _Handled(manager)

    return router, manager


class _Handled(Response):
    """The response that the SDK sends to this request."""

    def __init__(self, manager: StreamableHTTPSessionManager) -> None:
        super().__init__()
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._manager.handle_request(scope, receive, send)
