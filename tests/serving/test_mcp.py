"""The tools over MCP, with the SDK's own client over HTTP: they read and propose, and confirm nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from bankllm.loadtest.server_process import ServerProcess
from tests.support.live_server import bank, guarded
from tests.support.tokens import bearer, token

pytestmark = pytest.mark.slow

ME = "CUST003"
Talk = Callable[[Client], Awaitable[Any]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with bank(tmp_path_factory.mktemp("demo"), BANKLLM_MCP="1", BANKLLM_TODAY="2026-11-29") as server:
        yield server


def talk(server: ServerProcess, use: Talk, headers: dict[str, str] | None = None) -> Any:
    async def connected() -> Any:
        async with (
            httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
            Client(streamable_http_client(f"{server.url}/mcp", http_client=http)) as client,
        ):
            return await use(client)

    return asyncio.run(connected())


def call(server: ServerProcess, name: str, headers: dict[str, str] | None = None, **arguments: Any) -> Any:
    return talk(server, lambda client: client.call_tool(name, arguments), headers)


def actions(server: ServerProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(
        f"{server.url}/api/v1/customers/{ME}/actions", trust_env=False, timeout=60
    ).json()
    return found


def test_the_tools_read(demo: ServerProcess) -> None:
    tools = {tool.name: tool for tool in talk(demo, lambda client: client.list_tools()).tools}
    assert {"ask", "balance", "spending", "transactions", "payees", "transfer", "freeze_card"} <= tools.keys()
    assert not [name for name in tools if "confirm" in name or "yes" in name]
    assert tools["spending"].input_schema["required"] == ["customer_id"]
    assert (tools["balance"].annotations.read_only_hint, tools["transfer"].annotations.read_only_hint) == (True, False)
    spent = call(demo, "spending", category="groceries", period="last month", customer_id=ME)
    assert not spent.is_error
    (understood,) = spent.structured_content["calls"]
    assert (understood["arguments"]["date_from"], understood["arguments"]["category"]) == ("2026-10-01", "groceries")
    assert "October 2026" in spent.content[0].text
    asked = call(demo, "ask", message="What is my balance?", customer_id=ME)
    assert "£" in asked.content[0].text


def test_an_acting_tool_only_proposes(demo: ServerProcess) -> None:
    made = call(demo, "transfer", amount="£8.88", to="Daniel Nair", customer_id=ME)
    pending = made.structured_content["pending_action"]
    assert "Shall I do that?" in made.content[0].text
    for message in ("yes", "confirm"):
        assert "Nothing was done" in call(demo, "ask", message=message, customer_id=ME).content[0].text
    states = {each["action_id"]: each["state"] for each in actions(demo)}
    assert states[pending["action_id"]] == "proposed"
    unclear = call(demo, "transfer", amount="£8.88", to="Daniel", customer_id=ME)
    assert unclear.structured_content["pending_action"] is None
    assert "Daniel Osei" in unclear.content[0].text
    assert set(states.values()) == {"proposed"}


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("confirm", {"action_id": "x"}, "There is no tool 'confirm'"),
        ("balance", {"customer": "CUST001"}, "is not valid"),
        ("balance", {"customer_id": "CUST999"}, "There is no customer with this id"),
        ("report_card", {"kind": "sold"}, "is not valid"),
        ("ask", {}, "Expected the argument message"),
    ],
)
def test_bad_calls_get_an_error_that_says_why(
    name: str, arguments: dict[str, Any], reason: str, demo: ServerProcess
) -> None:
    failed = call(demo, name, **({"customer_id": ME} | arguments))
    assert failed.is_error
    assert reason in failed.content[0].text


def test_without_tokens_no_other_page_and_host_reaches_it(demo: ServerProcess) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"accept": "application/json, text/event-stream"}
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}, {"x-forwarded-for": "203.0.113.9"}):
        for method in ("POST", "GET", "DELETE"):
            refused = httpx.request(
                method, f"{demo.url}/mcp", json=body, headers=accept | headers, trust_env=False, timeout=60
            )
            assert refused.status_code == 403, (method, headers)


def test_the_token_identifies_the_customer_and_needs_the_scope_to_propose(tmp_path: Path) -> None:
    with guarded(tmp_path, BANKLLM_MCP="1") as server:
        assert httpx.post(f"{server.url}/mcp", json={}, trust_env=False, timeout=60).status_code == 401
        mine, weak = (bearer(token(sub=ME, scope=scope)) for scope in ("actions", None))
        tools = talk(server, lambda client: client.list_tools(), mine).tools
        assert not [tool for tool in tools if "customer_id" in tool.input_schema["properties"]]
        assert "Current account" in call(server, "balance", mine).content[0].text
        assert call(server, "balance", mine, customer_id="CUST001").is_error
        wanted = {"amount": "£1", "to": "Daniel Nair"}
        assert call(server, "transfer", weak, **wanted).structured_content["pending_action"] is None
        assert call(server, "transfer", mine, **wanted).structured_content["pending_action"] is not None


def test_it_is_not_there_unless_it_is_asked_for(server: ServerProcess) -> None:
    assert (
        httpx.post(f"{server.url}/mcp", json={}, headers=bearer(token()), trust_env=False, timeout=60).status_code
        == 404
    )
