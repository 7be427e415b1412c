"""Several real worker processes on one socket and one store: metrics, kills, restarts and clean shutdown."""

import contextlib
import itertools
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from bankllm.errors import ServerError
from bankllm.loadtest.server_process import ServerProcess
from tests.support.prometheus_text import samples
from tests.support.server_client import Client, answered_by, until

pytestmark = pytest.mark.slow


def two_workers(folder: Path, **options: object) -> ServerProcess:
    """Two workers whose temporary files are in `folder / "tmp"`."""
    (folder / "tmp").mkdir(exist_ok=True)
    env = {"TMPDIR": str(folder / "tmp")}
    return ServerProcess(store=folder / "memory.db", log=folder / "server.log", env=env, workers=2, **options)


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    """The worker processes of a server, without Python's resource tracker, which is also a child of the supervisor."""
    return [child for child in psutil.Process(server.pid).children() if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    """A server for several tests. At the end, SIGTERM stops all its processes and removes their temporary files."""
    with two_workers(folder, options=("--log-file", str(folder / "app.log"))) as running:
        yield running
        workers = workers_of(running)
        assert list((folder / "tmp").glob("bankllm-workers-*"))
    assert running.returncode == 0
    assert not any(worker.is_running() for worker in workers)
    assert not list((folder / "tmp").glob("bankllm-*"))


def test_two_workers_share_one_store_and_one_set_of_metrics(server: ServerProcess, folder: Path) -> None:
    client, log, pids = Client(server), folder / "server.log", {worker.pid for worker in workers_of(server)}
    chats_before, requests_before = chats_in(client), client.get("/health/metrics").json()["requests_total"]
    chats = reads = 0
    while set(answered_by(log).values()) != pids:
        client.chat(f"What is my account balance? ({chats})")
        chats += 1
    assert client.chat("Where is my new card?")["unavailable"] == []
    seen_by: set[int] = set()
    while seen_by != pids:
        response = client.get("/api/v1/customers/CUST001/memory")
        assert "Where is my new card?" in {turn["user_message"] for turn in response.json()["messages"]}
        request_id = response.headers["x-request-id"]
        until(lambda: request_id in answered_by(log))  # noqa: B023  read in this iteration
        seen_by.add(answered_by(log)[request_id])
        reads += 1
    # A request is counted after its response has been sent.
    total = requests_before + chats + 1 + reads
    until(lambda: client.get("/health/metrics").json()["requests_total"] == total)
    figures = [client.get("/health/metrics").json() for _ in range(10)]
    assert {(each["workers"], each["requests_total"]) for each in figures} == {(2, total)}
    assert {chats_in(client) for _ in range(5)} == {chats_before + chats + 1}
    until(lambda: answered_by(folder / "app.log") == answered_by(log))
    assert not [name for name in ("app.log", "server.log") if "Where is my" in (folder / name).read_text()]


def test_worker_that_cannot_load_is_retried_while_another_serves(server: ServerProcess, folder: Path) -> None:
    client = Client(server)
    with contextlib.closing(sqlite3.connect(folder / "memory.db", isolation_level=None, timeout=30)) as db:
        db.execute("BEGIN EXCLUSIVE")
        workers_of(server)[0].kill()
        until(lambda: "could not load, retrying in 5 s" in (folder / "server.log").read_text())
        assert client.chat()["unavailable"] == ["memory", "storing"]
        db.execute("ROLLBACK")
    until(lambda: client.workers() == 2)
    assert client.chat()["unavailable"] == []


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with two_workers(tmp_path) as server:
        workers = workers_of(server)
        os.kill(server.pid, signal.SIGKILL)
        gone, alive = psutil.wait_procs(workers, timeout=120)
        assert (len(gone), alive) == (2, [])


@contextlib.contextmanager
def load(client: Client) -> Iterator[set[str]]:
    """Eight clients that chat with distinct texts until the block ends. Yields the texts whose turns were stored."""
    kept: set[str] = set()
    numbers, ended = itertools.count(), threading.Event()

    def chat() -> None:
        while not ended.is_set():
            text = f"What is my account balance, please? I ask for the {next(numbers)}th time."
            with contextlib.suppress(httpx.TransportError):  # its worker was killed
                assert client.chat(text)["unavailable"] == []
                kept.add(text)

    with ThreadPoolExecutor(8) as pool:
        threads = [pool.submit(chat) for _ in range(8)]
        try:
            yield kept
        finally:
            ended.set()
    for thread in threads:
        thread.result()


def test_no_answered_turn_is_lost_when_workers_are_killed_under_load(tmp_path: Path) -> None:
    def wait_for_chats() -> None:
        target = len(kept) + 20
        until(lambda: len(kept) >= target)

    with two_workers(tmp_path) as server:
        client, workers = Client(server), workers_of(server)
        with load(client) as kept:
            wait_for_chats()
            workers[0].kill()
            wait_for_chats()
            until(lambda: client.workers() == 2)
            [new] = [worker.pid for worker in workers_of(server) if worker not in workers]
            until(lambda: new in answered_by(tmp_path / "server.log").values())
            workers[1].kill()
            wait_for_chats()
    with two_workers(tmp_path) as server:
        assert kept <= Client(server).kept()


@pytest.mark.parametrize(("workers", "message"), [(1, ""), (2, "Error: No worker could start. ")])
def test_service_that_cannot_load_ends_with_one_error(tmp_path: Path, workers: int, message: str) -> None:
    store, log = tmp_path / "memory.db", tmp_path / "server.log"
    with contextlib.closing(sqlite3.connect(store)) as db:
        db.execute("CREATE TABLE theirs (a)")
    with pytest.raises(ServerError, match=r"exited with code 1 before"):
        ServerProcess(store=store, log=log, workers=workers, env={"TMPDIR": str(tmp_path)}).start()
    said = log.read_text().replace("\n", " ")
    assert said.count("another program's SQLite file") == 1
    assert message in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("bankllm-*"))


def chats_in(client: Client) -> float:
    """Requests to /api/v1/chat in /metrics."""
    values = samples(client.get("/metrics").content).items()
    return sum(v for (name, key), v in values if name == "http_requests_total" and ("route", "/api/v1/chat") in key)
