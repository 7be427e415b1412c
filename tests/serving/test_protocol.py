"""Raw bytes that no HTTP library sends: malformed requests, endless header sections, upgrade offers, slow clients."""

import contextlib
import json

import pytest

from bankllm.serving.limits import MAX_HEADER_BYTES
from tests.support.chat import BALANCE, JSON, assert_problem
from tests.support.live_server import CHAT, connect, request_bytes
from tests.support.tokens import token

pytestmark = pytest.mark.slow


def answer_to(server, data):
    """The server's response to these bytes, until it closes the connection."""
    with contextlib.closing(connect(server.url)) as line, contextlib.suppress(OSError):
        line.sendall(data)
        return line.makefile("rb").read()


def test_requests_that_are_not_http(server, client):
    chat = request_bytes(CHAT, b"{}")
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS
        b"GET\r\n\r\n",
        chat.replace(b"Content-Length: 2", b"Content-Length: -1"),
        chat.replace(b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 3"),
        chat.replace(b"Content-Length: 2", b"Content-Length: 2\r\nTransfer-Encoding: chunked"),
        chat.replace(b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        chat.replace(b"Host: 127.0.0.1", b"Bad Header: x\x00"),
    ):
        assert answer_to(server, data).startswith(b"HTTP/1.1 400 "), data


def test_many_and_large_headers(client):
    many = {f"X-Header-{number}": "a" * 50 for number in range(200)}
    assert client.get("/health", headers=many).status_code == 200
    headers = {f"X-{number}": "a" * 1000 for number in range(40)}
    assert_problem(client.get("/health", headers=headers), 431, f"larger than {MAX_HEADER_BYTES} bytes")
    # Headers just below the limit, with a body in the same packets.
    fits = {"X-Large": "a" * (MAX_HEADER_BYTES - 2000)}
    assert client.post(CHAT, content=json.dumps(BALANCE).ljust(100_000), headers=JSON | fits).status_code == 200


def test_endless_header_is_rejected_in_bounded_memory(server, client):
    before = server.rss_bytes()
    sent = 0
    with contextlib.closing(connect(server.url)) as line, contextlib.suppress(ConnectionError):
        line.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Large: ")
        for _ in range(1000):
            line.sendall(b"a" * 64 * 1024)
            sent += 64 * 1024
    assert sent < 32 * 2**20, "the server continued to read"
    assert server.rss_bytes() - before < 32 * 2**20


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.2"])
def test_request_that_offers_an_upgrade_is_answered_normally(server, client, protocol):
    offer = ["Connection: Upgrade, HTTP2-Settings, close", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABkAAQAAP__"]
    body = json.dumps(BALANCE).encode()
    answer = answer_to(server, request_bytes(CHAT, body, f"Authorization: Bearer {token(exp=4e9)}", *offer))
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(content)["intent"] == "account_balance"


def test_pipelined_requests_are_answered_in_turn(server, client):
    large = request_bytes(CHAT, b" " * 100_000, f"Authorization: Bearer {token(exp=4e9)}")
    answer = answer_to(server, large + large + b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 422 ") == 2
    assert answer.count(b"HTTP/1.1 200 ") == 1
