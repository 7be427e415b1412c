"""The servers that the benchmarks compare, each started as a separate process, and the chats that are sent to them.

with start(ours(options), folder) as server:
    drive(chats(messages), server.url + "/api/v1/chat", folder, seconds=20)

All three servers classify with the same encoder. The heads of the peers have random weights, because the benchmarks
compare speed, not replies.
"""

import argparse
import importlib.util
import os
import secrets
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    program: tuple[str, ...]
    path: str = "/predict"
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    has_store: bool = False
    """Whether it accepts `--store`."""
    missing: str | None = None


def pipeline_per_request(model_folder: str) -> Contender:
    program = (sys.executable, str(PEERS / "pipeline_app.py"), "--model", model_folder)
    return Contender("FastAPI + pipeline()", program)


def litserve(model_folder: str, arguments: Sequence[str] = ()) -> Contender:
    program = (sys.executable, str(PEERS / "litserve_app.py"), "--model", model_folder, *arguments)
    in_folder = (LITSERVE_FOLDER / "litserve").is_dir()
    if not in_folder and importlib.util.find_spec("litserve") is None:
        return Contender("LitServe", program, missing=f"litserve is not installed; run: {INSTALL_LITSERVE}")
    paths = [str(LITSERVE_FOLDER)] if in_folder else []
    paths += [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    return Contender("LitServe", program, environment={"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


def ours(options: argparse.Namespace) -> Contender:
    """Return `bankllm serve` with its defaults and authentication; `options` are those of `add_options`."""
    return Contender(
        "bankllm serve",
        (sys.executable, "-m", "bankllm", "serve", *shlex.split(options.ours_args)),
        path="/api/v1/chat",
        environment={"BANKLLM_JWT_SECRET": SECRET, "BANKLLM_RATE_LIMIT": "off"},
        has_store=True,
    )


def peers(options: argparse.Namespace) -> list[Contender]:
    folder = base_models.resolve("minilm").location
    return [pipeline_per_request(folder), litserve(folder, shlex.split(options.litserve_args))]


@contextmanager
def start(contender: Contender, folder: Path) -> Iterator[ServerProcess]:
    """Start a contender and yield it when it is ready. Its store is deleted afterwards, so every start is the same."""
    store = folder / "store.sqlite" if contender.has_store else None
    try:
        with ServerProcess(store=store, program=contender.program, env=contender.environment) as server:
            yield server
    finally:
        for file in folder.glob("store.sqlite*"):
            file.unlink()


@dataclass(frozen=True)
class CpuClock:
    """CPU seconds of the whole machine (including time taken by the hypervisor) and of a server with its workers."""

    machine: float
    server: float

    @classmethod
    def read(cls, server: ServerProcess) -> Self:
        all_ = psutil.cpu_times()
        process = psutil.Process(server.pid)
        times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
        busy = all_.user + all_.nice + all_.system + all_.irq + all_.softirq + all_.steal
        return cls(busy, sum(each.user + each.system for each in times))


def token(customer: str) -> str:
    """Return a customer's token for our server; it is valid for longer than a benchmark takes."""
    claims = {"sub": customer, "exp": time.time() + TOKEN_SECONDS, "aud": "bankllm"}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def chats(messages: Sequence[str], customers: Sequence[str] = CUSTOMERS[:1]) -> list[Call]:
    """Return one call per message, from alternating customers. The peers read only `message`, and no token."""
    tokens = {customer: token(customer) for customer in customers}
    senders = [customers[number % len(customers)] for number in range(len(messages))]
    return [
        Call({"message": message, "customer_id": sender}, tokens[sender])
        for message, sender in zip(messages, senders, strict=True)
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that configure our server, which are the same in all benchmarks."""
    parser.add_argument(
        "--ours-args", default="", help='options of `bankllm serve`, for example --ours-args="--workers 2"'
    )
    parser.add_argument("--customers", type=int, default=1, choices=range(1, 11), metavar="1..10")
