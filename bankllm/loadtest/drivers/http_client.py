"""HTTP/1.1 client of the open loop: asyncio sockets and the llhttp parser, to add little time to the measurement.

A request never waits for a free connection. If no connection is idle, another one is opened, up to the limit of the
system. A request above the limit fails with `NoFreeConnection`. That makes the load invalid, because the number of
requests would then depend on the replies, as in a closed loop.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from urllib.parse import SplitResult

import httptools

IDLE_S = 3.0
"""A connection that was idle for more seconds is not reused: the server may be closing it (uvicorn: after 5 s)."""


class InFlightRequest:
    """One request and its reply. Times are seconds of `time.monotonic()`; `length` is bytes of the body.

    Without a reply, `status` is 0 and `error` names the failure. `on_complete` is called once.
    """

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
        """Record the end of the request: its last byte or a failure. Later calls have no effect."""
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
    """A connection with at most one request at a time. After a reply it returns to the client's idle connections."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._in_flight: InFlightRequest | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._has_length = False
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, in_flight: InFlightRequest, request: bytes) -> None:
        assert self._transport is not None
        in_flight.connection = self
        self._in_flight = in_flight
        self._transport.write(request)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream always has an asyncio.Transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end("NotHttp")
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._client.open -= 1
        ended_by_closing = self._in_flight is not None and self._in_flight.first_byte and not self._has_length
        self._end("" if ended_by_closing and not error else type(error).__name__ if error else "ServerDisconnected")

    def on_message_begin(self) -> None:
        self._has_length = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        if self._in_flight is not None:
            self._in_flight.first_byte = time.monotonic()
            self._in_flight.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._in_flight is not None:
            self._in_flight.length += len(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            return  # an interim response (1xx); the final one follows
        expected = self._in_flight is not None
        self._end()
        if expected and self._parser.should_keep_alive() and self.is_open:
            self.idle_since = time.monotonic()
            self._client.idle.append(self)
        else:
            self.abort()

    def _end(self, error: str = "") -> None:
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None:
            in_flight.complete(error)


class Client:
    """Connections to one server.

    `timeout_s` is the timeout per request in s; `max_connections` limits the open connections; `context` selects TLS.
    """

    def __init__(
        self, parts: SplitResult, *, timeout_s: float, max_connections: int, context: ssl.SSLContext | None
    ) -> None:
        self.idle: list[Connection] = []
        """Idle connections, the newest last. The server may have closed some of them."""
        self.opened = 0
        """Connections opened since the start."""
        self._host = str(parts.hostname)
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._context = context
        self._timeout_s = timeout_s
        self._max_connections = max_connections
        self.open = 0
        """Connections that are open or being opened."""
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, request: bytes, on_complete: Callable[[InFlightRequest], None]) -> InFlightRequest:
        """Send a request now. `on_complete` is called with the returned object when the request has ended."""
        loop = asyncio.get_running_loop()
        in_flight = InFlightRequest(time.monotonic(), on_complete)
        in_flight.timer = loop.call_later(self._timeout_s, self._expire, in_flight)
        while self.idle:
            connection = self.idle.pop()
            if connection.is_open and in_flight.sent - connection.idle_since < IDLE_S:
                connection.send(in_flight, request)
                return in_flight
            connection.abort()
        if self.open >= self._max_connections:
            loop.call_soon(in_flight.complete, "NoFreeConnection")
        else:
            self.open += 1
            task = loop.create_task(self._connect(in_flight, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return in_flight

    async def _connect(self, in_flight: InFlightRequest, request: bytes) -> None:
        name = self._host if self._context else None
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), self._host, self._port, ssl=self._context, server_hostname=name
            )
        except OSError as error:  # ssl.SSLError is a subclass
            self.open -= 1
            in_flight.complete(type(error).__name__)
            return
        self.opened += 1
        if in_flight.done:
            connection.abort()
        else:
            connection.send(in_flight, request)

    def _expire(self, in_flight: InFlightRequest) -> None:
        in_flight.complete("TimeoutError")
        if in_flight.connection is not None:
            in_flight.connection.abort()

    async def close(self) -> None:
        """Close the idle connections and cancel those that are being opened."""
        for connection in tuple(self.idle):
            connection.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
