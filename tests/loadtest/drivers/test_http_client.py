"""The HTTP client of the open loop with all forms of HTTP replies, and with replies that are not valid HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import pytest

from bankllm.loadtest.drivers.http_client import Client, InFlightRequest

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
Facts = tuple[int, int, str]


def send_requests(
    answer: Answer, rounds: int = 1, concurrent: int = 1, max_connections: int = 100
) -> tuple[list[Facts], int]:
    """Send `concurrent` requests per round; return (status, length, error) of each, and the connections opened."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def ask() -> tuple[list[Facts], int]:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = Client(
            urlsplit(f"http://127.0.0.1:{port}"), timeout_s=0.5, max_connections=max_connections, context=None
        )
        on_complete: asyncio.Queue[InFlightRequest] = asyncio.Queue()
        facts = []
        for _ in range(rounds):
            for _ in range(concurrent):
                client.send(REQUEST, on_complete.put_nowait)
            for _ in range(concurrent):
                in_flight = await on_complete.get()
                assert in_flight.done >= in_flight.sent
                facts.append((in_flight.status, in_flight.length, in_flight.error))
        await asyncio.sleep(0.01)
        assert on_complete.empty()  # on_complete was called once per request
        await client.close()
        server.close()
        return facts, client.opened

    return asyncio.run(ask())


def writes(*pieces: bytes, close: bool = False) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)
        if close:
            writer.close()

    return answer


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("answer", "fact", "opened"),
    [
        (writes(OK), (200, 5, ""), 1),
        (writes(OK[:20], OK[20:41], OK[41:]), (200, 5, ""), 1),
        (writes(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), (503, 0, "HTTP 503"), 1),
        (writes(b"HTTP/1.1 204 None\r\n\r\n"), (204, 0, ""), 1),
        (
            writes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
            (200, 5, ""),
            1,
        ),
        (writes(b"HTTP/1.1 103 Early Hints\r\n\r\n", OK), (200, 5, ""), 1),
        (writes(OK.replace(b"OK", b"OK\r\nConnection: close"), close=True), (200, 5, ""), 3),
        (writes(b"HTTP/1.1 200 OK\r\n\r\n", b"hello", close=True), (200, 5, ""), 3),
        (writes(OK[:-1], close=True), (0, 4, "ServerDisconnected"), 3),
        (writes(b"HTTP/1.1 200", close=True), (0, 0, "ServerDisconnected"), 3),
        (writes(close=True), (0, 0, "ServerDisconnected"), 3),
        (writes(b"SSH-2.0-OpenSSH_9.6\r\n"), (0, 0, "NotHttp"), 3),
        (writes(OK[:-1]), (0, 4, "TimeoutError"), 3),
        (writes(), (0, 0, "TimeoutError"), 3),
    ],
)
def test_each_form_of_reply(answer: Answer, fact: Facts, opened: int) -> None:
    assert send_requests(answer, rounds=3) == (3 * [fact], opened)


def test_no_request_waits_for_a_connection() -> None:
    facts, opened = send_requests(writes(OK), rounds=2, concurrent=20)
    assert facts == 40 * [(200, 5, "")]
    assert opened == 20


def test_a_request_above_the_connection_limit_fails_at_once() -> None:
    facts, opened = send_requests(writes(OK), concurrent=5, max_connections=3)
    assert sorted(facts) == [*2 * [(0, 0, "NoFreeConnection")], *3 * [(200, 5, "")]]
    assert opened == 3


def test_a_closed_port_is_connection_refused() -> None:
    async def ask() -> InFlightRequest:
        on_complete: asyncio.Queue[InFlightRequest] = asyncio.Queue()
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        client = Client(urlsplit(f"http://127.0.0.1:{port}"), timeout_s=1, max_connections=5, context=None)
        client.send(REQUEST, on_complete.put_nowait)
        in_flight = await on_complete.get()
        assert client.open == 0
        return in_flight

    in_flight = asyncio.run(ask())
    assert (in_flight.status, in_flight.error) == (0, "ConnectionRefusedError")
