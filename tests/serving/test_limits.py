"""Limits of a real server: size of a body, time to receive it, and request rate per customer."""

import contextlib
import json
import select
import time

import httpx
import pytest
from fastapi.testclient import TestClient

from bankllm.errors import UsageError
from bankllm.serving import limits
from bankllm.serving.app import create_app
from bankllm.serving.limits import MAX_BODY_BYTES, MAX_HEADER_BYTES, parse_rate_limit
from bankllm.serving.server import serve
from bankllm.settings import Settings
from tests.support.chat import BALANCE, JSON, LOCAL, assert_problem
from tests.support.live_server import CHAT, connect, customer, guarded, request_bytes, served
from tests.support.server_client import until
from tests.support.tokens import SECRET

MEMORY = "/api/v1/customers/{}/memory"
ROUTES = (CHAT, f"{CHAT}/stream", "/v1/embeddings", "/v1/chat/completions")


@pytest.fixture
def local(engine):
    """The application in this process."""
    with TestClient(create_app(engine, Settings()), LOCAL) as made:
        yield made


def of_size(size):
    """A chat request of `size` bytes, padded with spaces, which JSON allows."""
    return json.dumps(BALANCE).encode().ljust(size)


def in_pieces(body):
    yield from (body[start : start + 10_000] for start in range(0, len(body), 10_000))


@pytest.mark.parametrize("sent", [lambda body: body, in_pieces], ids=["declared", "chunked"])
def test_body_of_the_maximum_size_is_accepted(local, sent):
    response = local.post(CHAT, content=sent(of_size(MAX_BODY_BYTES)), headers=JSON)
    assert response.status_code == 200
    assert response.json()["intent"] == "account_balance"


@pytest.mark.parametrize("sent", [lambda body: body, in_pieces], ids=["declared", "chunked"])
@pytest.mark.parametrize("route", ROUTES)
def test_larger_body_is_rejected(local, sent, route):
    for size in (MAX_BODY_BYTES + 1, 1_000_000):
        response = local.post(route, content=sent(of_size(size)), headers=JSON)
        body = response.json()
        assert response.status_code == body["status"] == 413
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["connection"] == "close"
        assert f"larger than {MAX_BODY_BYTES} bytes" in body["detail"]
        assert ("error" in body) == route.startswith("/v1/")


def test_large_headers_and_two_lengths_are_rejected(local):
    large = {"x-large": "a" * MAX_HEADER_BYTES}
    assert_problem(local.get("/health", headers=large), 431, f"larger than {MAX_HEADER_BYTES} bytes")
    assert_problem(local.get("/health?" + "a" * MAX_HEADER_BYTES), 431, "Send fewer or shorter headers")
    two = JSON | {"content-length": "2", "transfer-encoding": "chunked"}
    assert_problem(local.post(CHAT, content=b"{}", headers=two), 400, "Send only one of them")


@pytest.mark.slow
def test_large_content_length_is_rejected_before_the_body_is_sent(server):
    head = request_bytes(CHAT, b"").replace(b"Content-Length: 0", b"Content-Length: 999999999")
    with contextlib.closing(connect(server.url)) as line:
        line.sendall(head)
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def test_slow_body_is_rejected_and_a_slow_reply_is_not(engine, monkeypatch):
    monkeypatch.setattr(limits, "BODY_S", 1.0)
    respond = engine.responder.stream

    def slowly(*args):
        time.sleep(1.2)
        return respond(*args)

    monkeypatch.setattr(engine.responder, "stream", slowly)
    head, body = request_bytes(CHAT, b"").replace(b"Content-Length: 0", b"Content-Length: 5000"), b"{" + b" " * 4000
    with served(engine, Settings()) as url, contextlib.closing(connect(url)) as line:
        line.sendall(head)
        for byte in body:
            line.sendall(bytes([byte]))
            if select.select([line], [], [], 0.05)[0]:
                break
        else:
            pytest.fail("the server did not reject the slow body")
        answer = line.makefile("rb").read()  # until the server closes
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in answer
        assert httpx.post(url + CHAT, json=BALANCE, trust_env=False, timeout=60).status_code == 200


@pytest.mark.slow
def test_rate_limit_is_per_customer_over_all_routes(tmp_path):
    with (
        guarded(tmp_path, BANKLLM_RATE_LIMIT="4/hour") as server,
        customer(server, "CUST001") as eager,
        customer(server, "CUST002") as other,
    ):
        talk = {"messages": [{"role": "user", "content": "hello"}]}
        bodies = (BALANCE, BALANCE, {"input": "hello"}, talk)
        used = [eager.post(route, json=body) for route, body in zip(ROUTES, bodies, strict=True)]
        assert [response.status_code for response in used] == [200] * 4, "each route counts for the same window"
        for route, body in zip(ROUTES[:2], bodies[:2], strict=True):
            refused = eager.post(route, json=body)
            assert_problem(refused, 429, "Rate limit exceeded: 4 per 1 hour")
            assert 3500 < int(refused.headers["retry-after"]) <= 3600
        for call in (eager.get, eager.delete):
            assert_problem(call(MEMORY.format("CUST001")), 429)
        # A rejected request for another customer does not count for that customer's rate.
        assert_problem(eager.get(MEMORY.format("CUST002")), 403)
        assert [other.get(MEMORY.format("CUST002")).status_code for _ in range(5)] == [200] * 4 + [429]
        assert eager.get("/health").status_code == 200


def test_request_is_accepted_after_retry_after(engine):
    with TestClient(create_app(engine, Settings(rate_limit="2/3second")), LOCAL) as client:
        answers = [client.get(MEMORY.format("CUST001")) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 3
        until(lambda: client.get(MEMORY.format("CUST001")).status_code == 200)


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        (Settings(), None),
        (Settings(jwt_secret=SECRET), "120 per 1 minute"),
        (Settings(jwks_url="https://id.example/jwks"), "120 per 1 minute"),
        (Settings(jwt_secret=SECRET, rate_limit="off"), None),
        (Settings(rate_limit="5/second"), "5 per 1 second"),
    ],
)
def test_rate_is_parsed_from_the_settings(settings, rate):
    assert parse_rate_limit(settings) == rate or str(parse_rate_limit(settings)) == rate


@pytest.mark.parametrize(
    "rate", ["often", "5", "-1/minute", "0/minute", "5/fortnight", "60/minute;2/second", "1.5/hour"]
)
def test_invalid_rate_is_rejected(rate):
    with pytest.raises(UsageError, match=rf"BANKLLM_RATE_LIMIT is '{rate}'\. Expected one rate, such as 120/minute"):
        serve("127.0.0.1", 0, Settings(rate_limit=rate))
