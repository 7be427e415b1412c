"""The servers that the benchmarks compare, each started as a separate process, and the chats that are sent to them.

All three servers classify with the same encoder. The heads of the peers have random weights, because the benchmarks
compare speed, not replies.
"""

import os
import secrets
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from itertools import cycle
from pathlib import Path
from typing import Self

import jwt
import psutil
from wrk import Call

from bankllm.loadtest.server_process import ServerProcess
from bankllm.model import base_models
from bankllm.settings import project_root

PEERS = Path(__file__).parent / "peers"
LITSERVE_FOLDER = project_root() / "build" / "peers"
"""Separate from our environment, whose versions are pinned by the lock file."""
INSTALL_LITSERVE = f"pip install --target {LITSERVE_FOLDER} -c requirements.lock litserve==0.2.19"
CUSTOMERS = tuple(f"CUST{number:03d}" for number in range(1, 11))
TOKEN_SECONDS = 24 * 3600
SECRET = secrets.token_hex(32)
"""Secret that signs the tokens of this run."""


@dataclass(frozen=True)
class Contender:
    """A server to start. `path` is its endpoint; `missing` says why it cannot be started on this machine."""

    name: str
    program: Sequence[str]
    path: str = "/predict"
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    has_store: bool = False
    """Whether it accepts `--store`."""
    missing: str | None = None

    def process(self, folder: Path) -> ServerProcess:
        """The server, with its store in an empty folder."""
        store = folder / "store.sqlite" if self.has_store else None
        return ServerProcess(store=store, program=self.program, env=self.environment)


def ours(arguments: str = "") -> Contender:
    """Return `bankllm serve` with authentication and, apart from `arguments`, its defaults."""
    return Contender(
        "bankllm serve",
        [sys.executable, "-m", "bankllm", "serve", *shlex.split(arguments)],
        path="/api/v1/chat",
        environment={"BANKLLM_JWT_SECRET": SECRET, "BANKLLM_JWT_AUDIENCE": "bankllm", "BANKLLM_RATE_LIMIT": "off"},
        has_store=True,
    )


def peers() -> list[Contender]:
    """Return a pipeline per request, and LitServe."""
    model = base_models.resolve("minilm").location
    pipeline, litserve = (
        [sys.executable, str(PEERS / f"{name}_app.py"), "--model", model] for name in ("pipeline", "litserve")
    )
    found = PathFinder.find_spec("litserve", [str(LITSERVE_FOLDER), *sys.path])
    missing = None if found else f"litserve is not installed; run: {INSTALL_LITSERVE}"
    paths = os.pathsep.join(filter(None, [str(LITSERVE_FOLDER), os.environ.get("PYTHONPATH")]))
    return [
        Contender("FastAPI + pipeline()", pipeline),
        Contender("LitServe", litserve, environment={"PYTHONPATH": paths}, missing=missing),
    ]


@dataclass(frozen=True)
class CpuClock:
    """CPU seconds of the whole machine (including time taken by the hypervisor) and of a server with its workers."""

    machine: float
    server: float

    @classmethod
    def read(cls, server: ServerProcess) -> Self:
        all_ = psutil.cpu_times()
        busy = all_.user + all_.nice + all_.system + all_.irq + all_.softirq + all_.steal
        return cls(busy, server.usage()["all_cpu_s"])


def chats(messages: Sequence[str], customers: Sequence[str]) -> list[Call]:
    """Return one call per message, from alternating customers. The peers read only `message`, and no token."""
    claims = {"exp": time.time() + TOKEN_SECONDS, "aud": "bankllm"}
    tokens = {customer: jwt.encode({"sub": customer, **claims}, SECRET, algorithm="HS256") for customer in customers}
    senders = zip(messages, cycle(customers), strict=False)
    return [Call({"message": message, "customer_id": sender}, tokens[sender]) for message, sender in senders]
