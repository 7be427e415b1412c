"""Load drivers in this process. Open loop: each request is sent when it is due, even if earlier replies are pending.

The latency counts from the due time, so a stall of the server shows in every request that was due during the stall. A
closed loop shows it only in the requests that were pending (coordinated omission). `closed-loop` has users who send a
request when the reply to the one before is complete: the work that a server can do. `sequential` has one such user.
"""

import asyncio
import gc
import math
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from bankllm.evidence.statistics.samples import samples_needed
from bankllm.loadtest.load import (
    LOAD_DRIVERS,
    PATHS,
    Arrivals,
    Call,
    Load,
    LoadDriver,
    LoadResult,
    RequestRow,
    estimate,
    piece_rows,
    row,
)
from bankllm.loadtest.reply_outcomes import StreamedReply, reply_columns

HEAD_START_S = 0.05
"""Seconds between the start of the event loop and the first due time."""
IDLE_S = 3.0
"""A connection that was idle for more seconds is not reused: the server may be closing it (uvicorn: after 5 s)."""
MAX_OPEN_FILES = 20_000
"""Below the number of local ports that a system provides for connections to one address."""
MAX_EVENT_BYTES = 2**20
"""Above the size of an event with the reply and a table of 100 payments."""
MAX_LATENESS_MS = 5.0
"""Limit of the p99 of the time from due to sent, in ms; see `lateness_fault`."""
MAX_LATENESS_SHARE = 0.1
"""The same limit as a share of the p99 of the latency; the larger limit applies."""


def run_open_loop(load: Load, folder: Path) -> LoadResult:
    """Send requests at `load.rate` per second, from a thread of this process. Writes no files."""
    result = send(load)
    if not result.interrupted:
        result.invalid_because = lateness_fault(result.measured)
    if (p99 := estimate(lateness_rows(result.measured), 0.99).value) is not None:
        result.limits = (f"p99 of the time from due to sent is {p99:.2f} ms; latency_ms includes it",)
    return result


def run_closed_loop(load: Load, folder: Path) -> LoadResult:
    """Send the requests of `load.users` users, who do not pause, from a thread of this process. Writes no files.

    The rows of chats have further columns: `intent`, and the duration of each stage that the server reports, such as
    `encode_ms`.
    """
    result = send(load)
    columns = dict.fromkeys(name for row in result.rows for name in row)
    result.rows = [{name: row.get(name, "") for name in columns} for row in result.rows]
    return result


LOAD_DRIVERS.add("open-loop", LoadDriver(run_open_loop, "open", ("chat", "stream", "health", "mix")))
LOAD_DRIVERS.add("closed-loop", LoadDriver(run_closed_loop, "closed", ("chat", "stream", "health")))
LOAD_DRIVERS.add("sequential", LoadDriver(run_closed_loop, "closed", ("chat", "stream", "health"), most_users=1))


def send(load: Load) -> LoadResult:
    """Send the requests of a load when they are due, or without a rate by users who never pause, from a thread."""
    import resource

    import uvloop

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    generator = Generator(load)
    gc.freeze()  # a full garbage collection would delay all requests that are due
    try:
        with ThreadPoolExecutor(1, "open-loop") as pool:
            running = pool.submit(uvloop.run, generator.run())
            try:
                running.result()
            except KeyboardInterrupt:
                generator.interrupt()
                running.result()
    finally:
        gc.unfreeze()
    return generator.result()


class Generator:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.rows: dict[int, RequestRow] = {}
        """Number of the request in the plan → its row."""
        self.pieces: list[RequestRow] = []
        self.interrupted = False
        self.cpu_share: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Send all requests and wait for their replies, unless the load ends early."""
        import aiohttp

        self._sending, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        if self.interrupted:
            return
        cpu_began = time.thread_time()
        self._began = time.monotonic() + (HEAD_START_S if self.load.rate else 0)
        tls = ssl.create_default_context()  # reads SSL_CERT_FILE
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S, ssl=tls),
            timeout=aiohttp.ClientTimeout(total=self.load.timeout_s, ceil_threshold=math.inf),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=MAX_EVENT_BYTES,
        )
        try:
            async with session, asyncio.TaskGroup() as group:
                if self.load.rate is None:
                    calls = enumerate(islice(self.load.calls(), self.load.total))
                    for _ in range(self.load.users):
                        group.create_task(self._send_in_turn(session, calls))
                    return
                times = due_times(self.load.rate, self.load.arrivals, self.load.seed)
                for number, due, call in zip(range(self.load.total), times, self.load.calls(), strict=False):
                    while (left := self._began + due - time.monotonic()) > 0:  # a timer fires up to 1 ms early
                        await asyncio.sleep(left)
                    group.create_task(self._send(session, number, due, call))
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.interrupted = True
        finally:
            self.cpu_share = (time.thread_time() - cpu_began) / self._now()

    def result(self) -> LoadResult:
        """The requests that were answered or failed so far, in the order of the plan."""
        rows = [self.rows[number] for number in sorted(self.rows)]
        because = f"it was interrupted after {len(rows)} of {self.load.total} requests" if self.interrupted else None
        pieces = sorted(self.pieces, key=lambda piece: piece["request"])
        return LoadResult(self.load, rows, pieces, (), self.cpu_share, because, self.interrupted)

    def interrupt(self) -> None:
        """End the load early, from another thread. Pending requests have no row."""
        self.interrupted = True
        if self._loop is not None and self._sending is not None:
            self._loop.call_soon_threadsafe(self._sending.cancel)

    async def _send_in_turn(self, session: Any, calls: Iterator[tuple[int, Call]]) -> None:
        for number, call in calls:
            await self._send(session, number, None, call)

    async def _send(self, session: Any, number: int, due: float | None, call: Call) -> None:
        import aiohttp

        token = self.load.tokens.get(call.body.get("customer_id", ""))
        headers = {"Authorization": f"Bearer {token}"} if token else None
        request = {
            "method": "POST" if call.body else "GET",
            "url": self.load.url + PATHS[call.kind],
            "headers": headers,
        }
        phase = "warm_up" if number < self.load.warm_up else "steady"
        columns: dict[str, Any] = {"driver": self.load.driver, "kind": call.kind, "phase": phase, "status": 0}
        streamed, reply = StreamedReply(), None
        sent = self._now()
        try:
            async with session.request(**request, json=call.body or None, allow_redirects=False) as response:
                columns["first_byte_s"] = self._now()
                if response.content_type == "text/event-stream":
                    columns["bytes"] = await self._read_events(response.content, streamed)
                    columns |= {"first_token_s": streamed.first_content_s or "", "tokens": len(streamed.pieces)}
                    reply, columns["error"] = streamed.reply, streamed.error
                else:
                    columns["bytes"] = len(await response.read())
                    if call.body and response.status == 200 and response.content_type == "application/json":
                        reply = await response.json()
                columns["status"] = response.status
                if response.status >= 400:
                    columns["error"] = f"HTTP {response.status}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = getattr(error, "os_error", None) or error  # why the connection failed
            columns["error"] = str(cause.strerror) if type(cause) is OSError else type(cause).__name__
        done = self._now()
        columns |= reply_columns(call.question, reply) if call.body else {}
        self.rows[number] = row(sent, done, "" if due is None else due, **columns)
        if due is None and reply:
            stages = {f"{stage}_ms": ms for stage, ms in reply.get("latency_ms", {}).items()}
            self.rows[number] |= {"intent": reply.get("intent", ""), **stages}
        if phase == "steady" and streamed.reply:
            times = [at_s for _, at_s in streamed.pieces]
            self.pieces += piece_rows(number, sent, times, columns["served_by"])

    async def _read_events(self, content: Any, streamed: StreamedReply) -> int:
        """Read a stream to its end; return its length in bytes."""
        size = 0
        while event := await content.readuntil(b"\n\n"):
            streamed.read(event, self._now())
            size += len(event)
        return size

    def _now(self) -> float:
        """Seconds since the start of the load."""
        return time.monotonic() - self._began


def due_times(rate: float, arrivals: Arrivals, seed: int) -> Iterator[float]:
    """Yield the due times of the requests, in seconds after the start, at `rate` requests per second. Never ends.

    - `poisson`: the times between requests are exponentially distributed, as for many independent customers.
    - `constant`: the times between requests are equal.
    """
    draw = Random(seed)
    due = 0.0
    while True:
        yield due
        due += draw.expovariate(rate) if arrivals == "poisson" else 1 / rate


def lateness_fault(rows: list[RequestRow]) -> str | None:
    """Return why the latencies describe the generator rather than the server; None if they describe the server.

    The p99 of the time from due to sent (the lateness) may be 5 ms. On a machine that the server uses fully it may be
    larger, up to a tenth of the p99 of the latency: the measured latency is then too high by at most that, and
    `LoadResult.limits` reports the lateness. None if there are too few requests for a p99.
    """
    if len(rows) < samples_needed(0.99):
        return None
    late, latency = estimate(lateness_rows(rows), 0.99).value or 0, estimate(rows, 0.99).value or 0
    if late <= max(MAX_LATENESS_MS, MAX_LATENESS_SHARE * latency):
        return None
    return (
        f"requests were sent {late:.1f} ms after they were due at p99, over {MAX_LATENESS_MS:g} ms and a tenth of the "
        f"latency ({latency:.1f} ms): the generator cannot sustain this rate on this machine"
    )


def lateness_rows(rows: list[RequestRow]) -> list[RequestRow]:
    """Return the rows with the lateness in ms as their latency."""
    return [each | {"latency_ms": 1000 * (float(each["sent_s"]) - float(each["scheduled_s"]))} for each in rows]
