"""The fair lock, writes that share a transaction, and the isolation of a failing write from the others."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bankllm.errors import StoreError
from bankllm.vectors.sqlite.connection import FairLock, SharedConnection
from tests.support.server_client import until
from tests.support.store_model import DIM, EMBEDDER, sql

INSERT = "INSERT INTO meta VALUES (?, ?)"


@pytest.fixture
def shared(path: Path) -> Iterator[SharedConnection]:
    with closing(SharedConnection(path, DIM, EMBEDDER, wait_s=10)) as opened:
        yield opened


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as opened:
        yield opened


def kept(path: Path) -> list[int]:
    return sorted(int(key) for (key,) in sql(path, "SELECT key FROM meta WHERE value = 'test'"))


def write_together(pool: ThreadPoolExecutor, shared: SharedConnection, keys: list) -> list[Future[None]]:
    """Submit one write per key; all of them are queued before the first one runs."""
    with shared.exclusive():
        futures = []
        for n, key in enumerate(keys, 1):
            values = key if isinstance(key, InterruptsOnce) else [(key, "test")]
            futures.append(pool.submit(shared.write, INSERT, values))
            until(lambda n=n: len(shared.lock._gates) == n + 1)
    return futures


class InterruptsOnce:
    """Values of a write whose thread is interrupted when it first reads them."""

    interrupted = False

    def __iter__(self) -> Iterator[tuple[int, str]]:
        if not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        yield 1, "test"


def test_the_lock_is_acquired_in_fifo_order(pool: ThreadPoolExecutor) -> None:
    lock, order = FairLock(), []

    def take(number: int) -> None:
        assert lock.acquire()
        order.append(number)
        lock.release()

    assert lock.acquire()
    assert not lock.acquire(timeout=0.01), "a thread that gives up does not block the others"
    futures = []
    for number in range(8):
        futures.append(pool.submit(take, number))
        until(lambda n=number: len(lock._gates) == n + 2)
    lock.release()
    for future in futures:
        future.result(10)
    assert order == list(range(8))
    assert lock.acquire(timeout=0)


def test_waiting_writes_share_one_transaction(shared: SharedConnection, pool: ThreadPoolExecutor, path: Path) -> None:
    statements: list[str] = []
    with shared.exclusive() as db:
        db.set_trace_callback(statements.append)
    for future in write_together(pool, shared, list(range(1, 9))):
        future.result(10)
    assert (statements.count("BEGIN IMMEDIATE"), statements.count("COMMIT")) == (1, 1)
    assert kept(path) == list(range(1, 9))


def test_a_locked_file_fails_all_waiting_writes_after_one_wait(path: Path, pool: ThreadPoolExecutor) -> None:
    statements: list[str] = []
    with (
        closing(SharedConnection(path, DIM, EMBEDDER, wait_s=0.3)) as shared,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        with shared.exclusive() as db:
            db.set_trace_callback(statements.append)
        other.execute("BEGIN IMMEDIATE")
        for future in write_together(pool, shared, [1, 2, 3]):
            with pytest.raises(StoreError, match=r"locked|busy for more than"):
                future.result(10)
        assert statements.count("BEGIN IMMEDIATE") <= 1
        other.execute("ROLLBACK")
        shared.write(INSERT, [(4, "test")])
    assert kept(path) == [4]


def test_other_writes_succeed_if_the_committing_thread_is_interrupted(
    shared: SharedConnection, pool: ThreadPoolExecutor, path: Path
) -> None:
    leader, *others = write_together(pool, shared, [InterruptsOnce(), 2, 3])
    with pytest.raises(KeyboardInterrupt):
        leader.result(10)
    for future in others:
        future.result(10)
    assert kept(path) == [2, 3], "the interrupted write is not run by another thread"
