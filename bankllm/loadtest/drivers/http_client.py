"""An HTTP/1.1 client for the open loop that adds as little as it can to what it times: sockets and llhttp's parser.

No request ever waits for a free connection: where none is idle, another is opened, up to what the system allows;
one beyond that fails as `NoFreeConnection`, which makes the load invalid, since from there on the loop was closed.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from urllib.parse import SplitResult

import httptools

IDLE_S = 3.0
"""A connection idle for longer is not used again: the server may be closing it (uvicorn does so after 5 s)."""


class InFlightRequest:
    """One request on its way; times are of `time.monotonic()`. `status` is 0 and `error` set where no reply came."""

    __slots__ = ("connection", "done", "error", "first_byte", "length", "on_complete", "sent", "status", "timer")

    def __init__(self, sent: float, on_complete: "Callable[[InFlightRequest], None]") -> None:
        self.sent = sent
        self.on_complete = on_complete
        self.first_byte = self.done = 0.0
        self.status = self.length = 0
        self.error = ""
        self.connection: Connection | None = None
        self.timer: asyncio.TimerHandle | None = None

    def complete(self, error: str = "") -> None:
        """The last byte is there, or the failure; the first ending counts."""
        if self.done:
            return
        self.done = time.monotonic()
        if error:
            self.status, self.error = 0, error
        elif self.status >= 400:
            self.error = f"HTTP {self.status}"
        if self.timer is not None:
            self.timer.cancel()
        self.on_complete(self)


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time and goes back to the idle ones after it."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._flight: InFlightRequest | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._has_length = False
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, flight: InFlightRequest, request: bytes) -> None:
        assert self._transport is not None
        flight.connection = self
        self._flight = flight
        self._transport.write(request)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # of a stream, always an asyncio.Transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end("NotHttp")
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._client.open -= 1
        ended_by_closing = self._flight is not None and self._flight.first_byte and not self._has_length
        self._end("" if ended_by_closing and not error else type(error).__name__ if error else "ServerDisconnected")

    def on_message_begin(self) -> None:
        self._has_length = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        if self._flight is not None:
            self._flight.first_byte = time.monotonic()
            self._flight.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._flight is not None:
            self._flight.length += len(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            return  # an interim reply; the real one follows
        asked = self._flight is not None
        self._end()
        if asked and self._parser.should_keep_alive() and self.is_open:
            self.idle_since = time.monotonic()
            self._client.idle.append(self)
        else:
            self.abort()

    def _end(self, error: str = "") -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.complete(error)


class Client:
    """Connections to one server. `most` bounds how many may be open at once."""

    def __init__(self, parts: SplitResult, *, timeout_s: float, most: int, context: ssl.SSLContext | None) -> None:
        self.idle: list[Connection] = []
        """Newest last; some may have been closed by the server."""
        self.opened = 0
        """How many connections were ever opened."""
        self._host = str(parts.hostname)
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._context = context
        self._timeout_s = timeout_s
        self._most = most
        self.open = 0
        """How many are open, or being opened."""
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, request: bytes, on_complete: Callable[[InFlightRequest], None]) -> InFlightRequest:
        """Send a request now; `on_complete` is called with its flight when it is over."""
        loop = asyncio.get_running_loop()
        flight = InFlightRequest(time.monotonic(), on_complete)
        flight.timer = loop.call_later(self._timeout_s, self._expire, flight)
        while self.idle:
            connection = self.idle.pop()
            if connection.is_open and flight.sent - connection.idle_since < IDLE_S:
                connection.send(flight, request)
                return flight
            connection.abort()
        if self.open >= self._most:
            loop.call_soon(flight.complete, "NoFreeConnection")
        else:
            self.open += 1
            task = loop.create_task(self._connect(flight, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return flight

    async def _connect(self, flight: InFlightRequest, request: bytes) -> None:
        name = self._host if self._context else None
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), self._host, self._port, ssl=self._context, server_hostname=name
            )
        except OSError as error:  # ssl.SSLError is one
            self.open -= 1
            flight.complete(type(error).__name__)
            return
        self.opened += 1
        if flight.done:
            connection.abort()
        else:
            connection.send(flight, request)

    def _expire(self, flight: InFlightRequest) -> None:
        flight.complete("TimeoutError")
        if flight.connection is not None:
            flight.connection.abort()

    async def close(self) -> None:
        """End what is still open or being opened."""
        for connection in tuple(self.idle):
            connection.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
