"""Several real worker processes on one socket and one store: metrics, kills, restarts and clean shutdown."""

import contextlib
import itertools
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bankllm.errors import ServerError
from bankllm.loadtest.server_process import ServerProcess
from tests.support.server_client import Client, answered_by, log_lines, until

pytestmark = pytest.mark.slow

FOREIGN = "another program's SQLite file"


def two_workers(folder: Path, **options: object) -> ServerProcess:
    """Two workers whose temporary files are in `folder / "tmp"`."""
    (folder / "tmp").mkdir(exist_ok=True)
    env = {"TMPDIR": str(folder / "tmp")}
    return ServerProcess(store=folder / "memory.db", log=folder / "server.log", env=env, workers=2, **options)


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    """The worker processes of a server, without Python's resource tracker, which is also a child of the supervisor."""
    return [child for child in psutil.Process(server.pid).children() if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture
def foreign_store(tmp_path: Path) -> Path:
    path = tmp_path / "memory.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (a)")
    return path


def test_two_workers_share_one_store_and_one_set_of_metrics(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    began = time.perf_counter()
    with two_workers(tmp_path) as server:
        print(f"two workers were ready after {time.perf_counter() - began:.1f} s")
        client, pids = Client(server), {worker.pid for worker in workers_of(server)}
        chats = 0
        while set(answered_by(log).values()) != pids:
            client.chat(f"What is my account balance? ({chats})")
            chats += 1
        first = client.post("Where is my new card?")
        seen_by: set[int] = set()
        reads = 0
        while seen_by != pids:
            response = client.get("/api/v1/customers/CUST001/memory")
            assert "Where is my new card?" in {turn["user_message"] for turn in response.json()["messages"]}
            seen_by.add(worker_of(response, log))
            reads += 1
        # A request is counted after its response has been sent.
        until(lambda: client.get("/health/metrics").json()["requests_total"] == chats + 1 + reads)
        figures = [client.get("/health/metrics").json() for _ in range(10)]
        assert {(each["workers"], each["requests_total"]) for each in figures} == {(2, chats + 1 + reads)}
        for _ in range(5):
            assert chats_in(client.get("/metrics").text) == chats + 1
    assert first.json()["unavailable"] == []


def test_sigterm_to_the_supervisor_stops_all_workers_and_removes_temporary_files(tmp_path: Path) -> None:
    server = two_workers(tmp_path)
    with server:
        Client(server).chat()
        workers = workers_of(server)
        assert list((tmp_path / "tmp").glob("bankllm-workers-*"))
        os.kill(server.pid, signal.SIGTERM)
        assert psutil.Process(server.pid).wait(20) == 0
        assert not any(worker.is_running() for worker in workers)
    assert not list((tmp_path / "tmp").glob("bankllm-*"))


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with two_workers(tmp_path) as server:
        workers = workers_of(server)
        os.kill(server.pid, signal.SIGKILL)
        gone, alive = psutil.wait_procs(workers, timeout=20)
        assert (len(gone), alive) == (2, [])


class Load:
    """Eight clients that chat with distinct texts until the block ends."""

    def __init__(self, client: Client) -> None:
        self.kept: set[str] = set()
        """Texts whose reply had an empty `unavailable` field."""
        self._client = client
        self._numbers = itertools.count()
        self._ended = threading.Event()

    def __enter__(self) -> "Load":
        self._pool = ThreadPoolExecutor(8)
        self._threads = [self._pool.submit(self._chat) for _ in range(8)]
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._pool.shutdown()
        for thread in self._threads:
            thread.result()

    def wait_for(self, more: int) -> None:
        """Wait until `more` additional chats have been answered."""
        target = len(self.kept) + more
        until(lambda: len(self.kept) >= target or any(thread.done() for thread in self._threads))

    def _chat(self) -> None:
        while not self._ended.is_set():
            text = f"What is my account balance, please? I ask for the {next(self._numbers)}th time."
            with contextlib.suppress(httpx.TransportError):  # its worker was killed
                reply = self._client.chat(text)
                assert reply["unavailable"] == []
                self.kept.add(text)


def test_no_answered_turn_is_lost_when_a_worker_is_killed_under_load(tmp_path: Path) -> None:
    with two_workers(tmp_path) as server:
        client, workers = Client(server), workers_of(server)
        with Load(client) as load:
            load.wait_for(20)
            workers[0].kill()
            load.wait_for(20)
            until(lambda: client.workers() == 2)
            [new] = [worker.pid for worker in workers_of(server) if worker not in workers]
            until(lambda: new in answered_by(tmp_path / "server.log").values())
            load.wait_for(20)
        assert load.kept <= client.kept()
    with two_workers(tmp_path) as server:  # again, with a kill before a restart on the same store
        client = Client(server)
        with Load(client) as again:
            again.wait_for(20)
            workers_of(server)[0].kill()
            again.wait_for(20)
    with two_workers(tmp_path) as server:
        assert load.kept | again.kept <= Client(server).kept()


def test_worker_that_cannot_load_is_retried_while_another_serves(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with two_workers(tmp_path) as server:
        client = Client(server)
        with held(tmp_path / "memory.db"):
            workers_of(server)[0].kill()
            until(lambda: any("could not load, retrying in 5 s" in line["message"] for line in log_lines(log)))
            assert client.chat()["unavailable"] == ["memory", "storing"]
        until(lambda: client.workers() == 2)
        assert client.chat()["unavailable"] == []
    assert server.returncode == 0


def test_service_ends_with_one_error_if_no_worker_can_load(tmp_path: Path, foreign_store: Path) -> None:
    with pytest.raises(ServerError, match=r"exited with code 1 before"):
        two_workers(tmp_path).start()
    said = (tmp_path / "server.log").read_text().replace("\n", " ")
    assert said.count(FOREIGN) == 1
    assert "Error: No worker could start. " in said
    assert "Traceback" not in said
    assert not list((tmp_path / "tmp").glob("bankllm-*"))


def test_single_process_that_cannot_load_reports_one_error(tmp_path: Path, foreign_store: Path) -> None:
    log = tmp_path / "server.log"
    with pytest.raises(ServerError, match=r"exited with code 1 before"):
        ServerProcess(store=foreign_store, log=log).start()
    assert log.read_text().replace("\n", " ").count(FOREIGN) == 1
    assert "Traceback" not in log.read_text()


def worker_of(response: httpx.Response, log: Path) -> int:
    """The id of the process that answered. Its log line is written after the response."""
    request_id = response.headers["x-request-id"]
    until(lambda: request_id in answered_by(log))
    return answered_by(log)[request_id]


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Lock the store exclusively inside the block."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")


def chats_in(metrics: str) -> float:
    """Requests to /api/v1/chat in Prometheus' text."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "http_requests_total" and sample.labels["route"] == "/api/v1/chat"
    )
