"""The open-loop generator as its own process: sends each request at its due time, independent of earlier replies.

    python -m bankllm.loadtest.drivers.open_loop_process plan.json

Run it in the folder that receives the rows. Tokens are read from BANKLLM_LOAD_TOKENS. SIGTERM stops it early and
keeps the rows collected so far.
"""

import asyncio
import csv
import gc
import json
import os
import random
import resource
import signal
import ssl
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from bankllm.loadtest.drivers.arrivals import Timer, due_times
from bankllm.loadtest.drivers.http_client import Client, InFlightRequest
from bankllm.loadtest.load import COLUMNS, PATHS, RequestKind, RequestRow, row

HEAD_START_S = 0.05
"""Seconds between the start of the event loop and the first due time."""
MAX_CONNECTIONS = 20_000
"""Below the number of local ports that a system provides for connections to one address."""
MAX_CONSECUTIVE_FAILURES = 200
"""After this many consecutive failures to reach the server, the load ends."""
UNREACHED = ("ConnectionRefusedError", "ConnectionResetError", "ServerDisconnected", "NotHttp")


class Generator:
    """Sends the requests of one plan (`load.Load.plan`) and collects their rows."""

    def __init__(self, plan: dict[str, Any], tokens: dict[str, str]) -> None:
        self.rows: list[tuple[int, RequestRow]] = []
        """Number of the request in the plan, and its row; in the order of completion."""
        self.ended = ""
        """Why the run ended early; empty for a complete run."""
        self.sent = 0
        self._plan = plan
        self._total = plan["warm_up"] + plan["requests"]
        self._due = islice(due_times(plan["rate"], plan["arrivals"], plan["seed"]), self._total)
        self._calls = calls(plan, tokens)
        self._finished = asyncio.Event()
        self._unreached = 0
        parts = urlsplit(plan["url"])
        context = ssl.create_default_context() if parts.scheme == "https" else None
        self.client = Client(parts, timeout_s=plan["timeout_s"], max_connections=_connection_limit(), context=context)

    async def run(self) -> None:
        """Send all requests and wait for their replies, or until `stop` is called."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop, "it was interrupted")
        self._timer = Timer(loop, self._send_due_requests)
        self._began = time.monotonic() + HEAD_START_S
        self._next = next(self._due)
        self._timer.set(self._began + self._next)
        await self._finished.wait()
        self._timer.close()
        await self.client.close()

    def stop(self, why: str) -> None:
        """End the run early. The first reason is kept."""
        self.ended = self.ended or why
        self._finished.set()

    def _send_due_requests(self) -> None:
        while not self.ended and self.sent < self._total:
            if self._began + self._next > time.monotonic():
                self._timer.set(self._began + self._next)
                return
            number, due = self.sent, self._next
            kind, request = next(self._calls)
            self.client.send(request, partial(self._record, number, kind, due))
            self.sent += 1
            self._next = next(self._due, 0.0)

    def _record(self, number: int, kind: RequestKind, due: float, request: InFlightRequest) -> None:
        sent, done = request.sent - self._began, request.done - self._began
        first_byte = request.first_byte - self._began if request.first_byte else ""
        phase = "warm_up" if number < self._plan["warm_up"] else "steady"
        latency_ms, service_ms = 1000 * (done - due), 1000 * (done - sent)
        times = (due, sent, first_byte, done, latency_ms, service_ms)
        reply = (request.status, request.length, request.error)
        self.rows.append((number, row("open-loop", 0, kind, phase, *times, *reply)))
        self._unreached = self._unreached + 1 if request.error in UNREACHED else 0
        if self._unreached == MAX_CONSECUTIVE_FAILURES:
            self.stop(f"the server was not reached {MAX_CONSECUTIVE_FAILURES} times in a row")
        elif len(self.rows) == self._total:
            self._finished.set()


def calls(plan: dict[str, Any], tokens: dict[str, str]) -> Iterator[tuple[RequestKind, bytes]]:
    """Yield requests as kind and HTTP/1.1 bytes: a random text of a random customer, or a health check. Never ends."""
    draw = random.Random(f"{plan['seed']} calls")
    parts = urlsplit(plan["url"])
    host = f"Host: {parts.netloc}\r\nAccept: */*\r\n"
    health = f"GET {parts.path}{PATHS['health']} HTTP/1.1\r\n{host}\r\n".encode()
    chat = f"POST {parts.path}{PATHS['chat']} HTTP/1.1\r\n{host}Content-Type: application/json\r\n"
    heads = {
        customer: chat + (f"Authorization: Bearer {tokens[customer]}\r\n" if customer in tokens else "")
        for customer in plan["customers"]
    }
    while True:
        if draw.random() < plan["health_share"]:
            yield "health", health
            continue
        customer = draw.choice(plan["customers"])
        body = json.dumps({"message": draw.choice(plan["messages"]), "customer_id": customer}).encode()
        yield "chat", f"{heads[customer]}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _connection_limit() -> int:
    """Raise the limit of open files as far as allowed, and return how many connections this process may open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, hard - 64)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed + 64, hard))
    return allowed


def set_realtime_priority() -> bool:
    """Request real-time scheduling (SCHED_FIFO) for this process; return whether the system allowed it.

    Linux allows it for root. The generator then sends requests on time even if the server uses every core, as a client
    on another machine would.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, OSError):  # not Linux; not allowed
        return False
    return True


async def drive(plan: dict[str, Any], tokens: dict[str, str]) -> None:
    """Run the plan and write two files: the rows, and the CPU time, wall time and connections of the generator."""
    generator = Generator(plan, tokens)
    realtime_priority = set_realtime_priority()
    # A garbage collection would delay all requests that are due. The rows form no reference cycles.
    gc.freeze()
    gc.disable()
    began, cpu_began = time.perf_counter(), time.process_time()
    await generator.run()
    cost = {"cpu_s": time.process_time() - cpu_began, "wall_s": time.perf_counter() - began}
    with Path(plan["rows"]).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept for _, kept in sorted(generator.rows, key=lambda numbered: numbered[0]))
    report = cost | {
        "ended": generator.ended,
        "connections": generator.client.opened,
        "realtime_priority": realtime_priority,
    }
    Path(plan["generator"]).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    uvloop.run(
        drive(
            json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")),
            json.loads(os.environ.get("BANKLLM_LOAD_TOKENS", "{}")),
        )
    )
