"""Without authentication: no other machine, no proxy, and no web page but the server's own can use the server."""

import pytest
from fastapi.testclient import TestClient

from bankllm.serving.app import create_app
from bankllm.settings import Settings
from tests.support.chat import BALANCE, JSON, LOCAL, assert_problem
from tests.support.live_server import CHAT

FORM = {"content-type": "text/plain"}
"""What a page of another site can send without asking the server first."""


@pytest.fixture
def client(engine):
    with TestClient(create_app(engine, Settings()), LOCAL) as made:
        yield made


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000", "127.9.8.7"]
)
def test_own_machine_and_own_page_are_answered(client, host):
    for headers in ({}, {"origin": f"http://{host}"}, {"origin": f"http://{host}", "sec-fetch-site": "same-origin"}):
        assert client.post(CHAT, json=BALANCE, headers={"host": host, **headers}).status_code == 200
    assert client.get("/", headers={"host": host, "sec-fetch-site": "cross-site"}).status_code == 200  # a link


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "203.0.113.1", "", "["],
)
def test_dns_rebinding(client, engine, host):
    """The page of evil.example, whose name now resolves to 127.0.0.1: same origin for the browser, but another Host."""
    headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    for response in (
        client.post(CHAT, json=BALANCE, headers=headers),
        client.get("/api/v1/customers/CUST001/memory", headers={"host": host}),
        client.delete("/api/v1/customers/CUST001/memory", headers=headers),
        client.get("/", headers={"host": host}),
    ):
        assert_problem(response, 403, "127.0.0.1 and localhost")
    assert engine.memory.store.count() == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://127.0.0.1.evil.example"},
        {"origin": "http://127.0.0.1@evil.example"},
        {"origin": "http://127.0.0.1:3000"},  # another program of this machine
        {"origin": "http://localhost"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_cross_site_requests(client, engine, headers):
    for kind in (JSON, FORM):
        assert_problem(client.post(CHAT, json=BALANCE, headers=kind | headers), 403, "web page of another")
        assert_problem(client.delete("/api/v1/customers/CUST001/memory", headers=kind | headers), 403)
    assert engine.memory.store.count() == 0


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host"])
def test_proxy_on_loopback(client, header):
    """It connects from 127.0.0.1 for strangers, and sends its own Host header or the public name's."""
    replaced = client.post(CHAT, json=BALANCE, headers={header: "203.0.113.9"})
    assert_problem(replaced, 403, "proxy forwarded", header.lower())
    kept = client.post(CHAT, json=BALANCE, headers={header: "203.0.113.9", "host": "bank.example"})
    assert_problem(kept, 403, "127.0.0.1 and localhost")


def test_server_on_a_public_address(engine):
    with TestClient(create_app(engine, Settings()), "http://203.0.113.1") as client:
        response = client.post(CHAT, json=BALANCE, headers={"host": "127.0.0.1"})
        assert_problem(response, 403, "Authentication is not configured", "only requests from its own machine")
