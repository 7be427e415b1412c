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
MOST_CONNECTIONS = 20_000
"""Below the ports that a system gives out for connections to one address."""
DEAD_AFTER = 200
"""So many failures to reach the server, one after another, and it is taken for dead."""
UNREACHED = ("ConnectionRefusedError", "ConnectionResetError", "ServerDisconnected", "NotHttp")


class Generator:
    """One run of a plan."""

    def __init__(self, plan: dict[str, Any], tokens: dict[str, str]) -> None:
        self.rows: list[tuple[int, RequestRow]] = []
        self.ended = ""
        """Why it stopped early."""
        self.sent = 0
        self._plan = plan
        self._total = plan["warm_up"] + plan["requests"]
        self._due = islice(due_times(plan["rate"], plan["arrivals"], plan["seed"]), self._total)
        self._calls = calls(plan, tokens)
        self._over = asyncio.Event()
        self._unreached = 0
        parts = urlsplit(plan["url"])
        context = ssl.create_default_context() if parts.scheme == "https" else None
        self.client = Client(parts, timeout_s=plan["timeout_s"], most=_most_connections(), context=context)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop, "it was interrupted")
        self._alarm = Timer(loop, self._send_what_is_due)
        self._began = time.monotonic() + HEAD_START_S
        self._next = next(self._due)
        self._alarm.set(self._began + self._next)
        await self._over.wait()
        self._alarm.close()
        await self.client.close()

    def stop(self, why: str) -> None:
        self.ended = self.ended or why
        self._over.set()

    def _send_what_is_due(self) -> None:
        while not self.ended and self.sent < self._total:
            if self._began + self._next > time.monotonic():
                self._alarm.set(self._began + self._next)
                return
            number, due = self.sent, self._next
            kind, request = next(self._calls)
            self.client.send(request, partial(self._keep, number, kind, due))
            self.sent += 1
            self._next = next(self._due, 0.0)

    def _keep(self, number: int, kind: RequestKind, due: float, request: InFlightRequest) -> None:
        sent, done = request.sent - self._began, request.done - self._began
        first_byte = request.first_byte - self._began if request.first_byte else ""
        phase = "warm_up" if number < self._plan["warm_up"] else "steady"
        waited, served = 1000 * (done - due), 1000 * (done - sent)
        said = (request.status, request.length, request.error)
        kept = row("open-loop", 0, kind, phase, due, sent, first_byte, done, waited, served, *said)
        self.rows.append((number, kept))
        self._unreached = self._unreached + 1 if request.error in UNREACHED else 0
        if self._unreached == DEAD_AFTER:
            self.stop(f"the server was not reached {DEAD_AFTER} times in a row")
        elif len(self.rows) == self._total:
            self._over.set()


def calls(plan: dict[str, Any], tokens: dict[str, str]) -> Iterator[tuple[RequestKind, bytes]]:
    """Requests without end, as they go over the wire: a random text of a random customer, or a health check."""
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


def _most_connections() -> int:
    """As many as the system lets this process have open, once it has asked for all it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST_CONNECTIONS if hard == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, hard - 64)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed + 64, hard))
    return allowed


def set_realtime_priority() -> bool:
    """Be scheduled before ordinary processes, as a client on another machine would be; whether the system lets us.

    It does so for root. Beside a server that takes every core, requests are then sent on time all the same.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, OSError):  # not Linux; not allowed
        return False
    return True


async def drive(plan: dict[str, Any], tokens: dict[str, str]) -> None:
    """Run the plan; leave its rows and what it cost as files."""
    generator = Generator(plan, tokens)
    first = set_realtime_priority()
    # A collection would hold up every request that is due; the rows form no cycles.
    gc.freeze()
    gc.disable()
    began, cpu_began = time.perf_counter(), time.process_time()
    await generator.run()
    busy = {"cpu_s": time.process_time() - cpu_began, "wall_s": time.perf_counter() - began}
    with Path(plan["rows"]).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept for _, kept in sorted(generator.rows, key=lambda numbered: numbered[0]))
    told = busy | {"ended": generator.ended, "connections": generator.client.opened, "realtime_priority": first}
    Path(plan["generator"]).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    uvloop.run(
        drive(
            json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")),
            json.loads(os.environ.get("BANKLLM_LOAD_TOKENS", "{}")),
        )
    )
