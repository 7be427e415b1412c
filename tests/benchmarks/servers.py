"""The servers that the benchmarks start, each as a process of its own, and what they are asked.

with start(ours(options), folder) as server:
    drive(chats(messages), server.url + "/api/v1/chat", folder, seconds=20)

All three classify with the same encoder. The peers' heads have random weights: speed is compared, not answers.
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

from bankllm.errors import UsageError
from bankllm.loadtest.server_process import ServerProcess
from bankllm.model import base_models
from bankllm.settings import project_root

PEERS = Path(__file__).parent / "peers"
LITSERVE_FOLDER = project_root() / "build" / "peers"
"""Apart from our environment, which the lock pins."""
INSTALL_LITSERVE = f"pip install --target {LITSERVE_FOLDER} -c requirements.lock litserve==0.2.19"
CUSTOMERS = tuple(f"CUST{number:03d}" for number in range(1, 11))
TOKEN_SECONDS = 24 * 3600
SECRET = secrets.token_hex(32)
"""Signs the tokens of this run."""


@dataclass(frozen=True)
class Contender:
    """A server to start. `path` is where it is asked; `missing` says why it cannot be started here."""

    name: str
    program: tuple[str, ...]
    path: str = "/predict"
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    keeps: bool = False
    """Whether it takes `--store`."""
    missing: str | None = None


def pipeline_per_request(model_folder: str) -> Contender:
    program = (sys.executable, str(PEERS / "pipeline_app.py"), "--model", model_folder)
    return Contender("FastAPI + pipeline()", program)


def litserve(model_folder: str, arguments: Sequence[str] = ()) -> Contender:
    program = (sys.executable, str(PEERS / "litserve_app.py"), "--model", model_folder, *arguments)
    here = (LITSERVE_FOLDER / "litserve").is_dir()
    if not here and importlib.util.find_spec("litserve") is None:
        return Contender("LitServe", program, missing=f"litserve is not installed; run: {INSTALL_LITSERVE}")
    paths = [str(LITSERVE_FOLDER)] if here else []
    paths += [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    return Contender("LitServe", program, environment={"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


def ours(options: argparse.Namespace) -> Contender:
    """`bankllm serve` as it comes, with tokens checked; `options` are those of `add_options`."""
    return Contender(
        "bankllm serve",
        (sys.executable, "-m", "bankllm", "serve", *shlex.split(options.ours_args)),
        path="/api/v1/chat",
        environment={"BANKLLM_JWT_SECRET": SECRET, "BANKLLM_RATE_LIMIT": "off", **environment(options.ours_env)},
        keeps=True,
    )


def peers(options: argparse.Namespace) -> list[Contender]:
    folder = base_models.resolve("minilm").location
    return [pipeline_per_request(folder), litserve(folder, shlex.split(options.litserve_args))]


@contextmanager
def start(contender: Contender, folder: Path) -> Iterator[ServerProcess]:
    """The contender, ready for requests; what it keeps is gone afterwards, so that each start is alike."""
    store = folder / "store.sqlite" if contender.keeps else None
    try:
        with ServerProcess(store=store, program=contender.program, env=contender.environment) as server:
            yield server
    finally:
        for file in folder.glob("store.sqlite*"):
            file.unlink()


@dataclass(frozen=True)
class CpuClock:
    """CPU seconds so far, of the whole machine (what the hypervisor took included) and of a server with its workers."""

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
    """What lets a customer speak to our server for as long as a benchmark may take."""
    claims = {"sub": customer, "exp": time.time() + TOKEN_SECONDS, "aud": "bankllm"}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def chats(messages: Sequence[str], customers: Sequence[str] = CUSTOMERS[:1]) -> list[Call]:
    """One call a message, from the customers in turn. The peers read `message` alone and no token."""
    tokens = {customer: token(customer) for customer in customers}
    speakers = [customers[number % len(customers)] for number in range(len(messages))]
    return [
        Call({"message": message, "customer_id": speaker}, tokens[speaker])
        for message, speaker in zip(messages, speakers, strict=True)
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """How our server is configured, the same in every benchmark."""
    parser.add_argument("--ours-env", metavar="KEY=VALUE", action="append", default=[], help="repeatable")
    parser.add_argument("--ours-args", default="", help='for `bankllm serve`, as in --ours-args="--workers 2"')
    parser.add_argument("--customers", type=int, default=1, choices=range(1, 11), metavar="1..10")


def environment(pairs: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` pairs. Raises `UsageError` for another form."""
    split = [pair.partition("=") for pair in pairs]
    for pair, (key, equals, _) in zip(pairs, split, strict=True):
        if not key or not equals:
            raise UsageError(f"{pair!r}: expected KEY=VALUE.")
    return {key: value for key, _, value in split}
