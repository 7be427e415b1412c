"""The fair lock, writes that share a transaction, and the isolation of a failing write from the others."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bankllm.vectors.sqlite import group_commit
from bankllm.vectors.sqlite.group_commit import FairLock, GroupCommit

INSERT = "INSERT INTO kept VALUES (?)"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "kept.sqlite"
    with closing(sqlite3.connect(path, timeout=0.1, isolation_level=None, check_same_thread=False)) as opened:
        opened.execute("CREATE TABLE kept (value INTEGER PRIMARY KEY CHECK (value < 100))")
        yield opened


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as opened:
        yield opened


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kept(db: sqlite3.Connection) -> list[int]:
    return [value for (value,) in db.execute("SELECT value FROM kept ORDER BY value")]


def write_together(
    pool: ThreadPoolExecutor, commits: GroupCommit, lock: FairLock, values: list[int]
) -> list[Future[None]]:
    """Submit one write per value; all of them are queued before the first one runs."""
    with lock:
        futures = []
        for n, value in enumerate(values, 1):
            futures.append(pool.submit(commits.write, INSERT, [(value,)]))
            until(lambda n=n: len(commits._waiting) == n == len(lock._gates))
    return futures


def test_the_lock_is_acquired_in_fifo_order(pool: ThreadPoolExecutor) -> None:
    lock, order = FairLock(), []

    def take(number: int) -> None:
        with lock:
            order.append(number)

    with lock:
        futures = []
        for number in range(8):
            futures.append(pool.submit(take, number))
            until(lambda n=number: len(lock._gates) == n + 1)
    for future in futures:
        future.result(10)
    assert order == list(range(8))
    assert not lock._held


def test_a_thread_interrupted_while_waiting_does_not_block_others(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gate:
        def __init__(self) -> None:
            self.calls = 0

        def acquire(self, timeout: float = -1) -> bool:
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return True

        def release(self) -> None: ...

    lock = FairLock()
    with lock:
        with monkeypatch.context() as patched:
            patched.setattr(group_commit, "Lock", Gate)
            with pytest.raises(KeyboardInterrupt), lock:
                raise AssertionError("the lock was never free")
        assert not lock._gates
        waiting = pool.submit(lock.__enter__)
        until(lambda: len(lock._gates) == 1)
    waiting.result(10)


def test_waiting_writes_share_one_transaction(db: sqlite3.Connection, pool: ThreadPoolExecutor) -> None:
    lock, statements = FairLock(), []
    commits = GroupCommit(db, lambda: lock)
    commits.write(INSERT, [(0,)])
    db.set_trace_callback(statements.append)
    for future in write_together(pool, commits, lock, list(range(1, 9))):
        future.result(10)
    assert (statements.count("BEGIN IMMEDIATE"), statements.count("COMMIT")) == (1, 1)
    assert kept(db) == list(range(9))


def test_an_invalid_write_does_not_fail_others(db: sqlite3.Connection, pool: ThreadPoolExecutor) -> None:
    lock = FairLock()
    commits = GroupCommit(db, lambda: lock)
    first, too_large, second, duplicate = write_together(pool, commits, lock, [1, 100, 2, 1])
    assert (first.result(10), second.result(10)) == (None, None)
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        too_large.result(10)
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        duplicate.result(10)
    with pytest.raises(sqlite3.Error, match="type"):
        commits.write(INSERT, [(object(),)])
    commits.write(INSERT, [(3,)])
    assert kept(db) == [1, 2, 3]


def test_a_busy_file_fails_the_group_after_one_wait(
    db: sqlite3.Connection, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    lock = FairLock()
    commits = GroupCommit(db, lambda: lock)
    with closing(sqlite3.connect(tmp_path / "kept.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        statements = []
        db.set_trace_callback(statements.append)
        for future in write_together(pool, commits, lock, [1, 2, 3]):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                future.result(10)
        db.set_trace_callback(None)
        assert len([statement for statement in statements if statement.startswith("BEGIN")]) <= 1
        other.execute("ROLLBACK")
    commits.write(INSERT, [(4,)])
    assert kept(db) == [4]


def test_other_writes_succeed_if_the_committing_thread_is_interrupted(
    db: sqlite3.Connection, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = FairLock()
    commits = GroupCommit(db, lambda: lock)
    commit, calls = GroupCommit._commit, []

    def interrupted_first(self: GroupCommit, group: list) -> None:
        calls.append(len(group))
        if len(calls) == 1:
            raise KeyboardInterrupt
        commit(self, group)

    monkeypatch.setattr(GroupCommit, "_commit", interrupted_first)
    leader, *others = write_together(pool, commits, lock, [1, 2, 3])
    with pytest.raises(KeyboardInterrupt):
        leader.result(10)
    for future in others:
        future.result(10)
    assert kept(db) == [2, 3]
    assert calls == [3, 1, 1]


def test_a_write_of_an_interrupted_thread_is_not_run_by_another_thread(db: sqlite3.Connection) -> None:
    class InterruptedOnce(FairLock):
        calls = 0

        def __enter__(self) -> None:
            self.calls += 1
            if self.calls == 1:
                raise KeyboardInterrupt
            super().__enter__()

    lock = InterruptedOnce()
    commits = GroupCommit(db, lambda: lock)
    with pytest.raises(KeyboardInterrupt):
        commits.write(INSERT, [(1,)])
    commits.write(INSERT, [(2,)])
    assert kept(db) == [2]


class FakePiggyback:
    """A `PiggybackWrite` that inserts values and records errors."""

    def __init__(self, *values: int) -> None:
        self.values = list(values)
        self.errors: list[Exception] = []

    def take(self) -> list[tuple[str, list[tuple[object, ...]]]]:
        taken, self.values = self.values, []
        return [(INSERT, [(value,)]) for value in taken]

    def failed(self, error: Exception) -> None:
        self.errors.append(error)


def test_piggyback_writes_share_the_next_transaction(db: sqlite3.Connection) -> None:
    lock, transactions = FairLock(), []
    commits = GroupCommit(db, lambda: lock)
    commits.piggyback = piggyback = FakePiggyback(7, 8)
    db.set_trace_callback(lambda sql: transactions.append(sql) if sql.startswith("BEGIN") else None)
    commits.write(INSERT, [(1,)])
    assert (kept(db), len(transactions), piggyback.errors) == ([1, 7, 8], 1, [])
    commits.write(INSERT, [(2,)])
    piggyback.values = [9]
    commits.flush(lambda: lock)
    commits.flush(lambda: lock)
    assert (kept(db), len(transactions)) == ([1, 2, 7, 8, 9], 3)


def test_a_failing_piggyback_write_does_not_fail_others(db: sqlite3.Connection) -> None:
    lock = FairLock()
    commits = GroupCommit(db, lambda: lock)
    commits.piggyback = piggyback = FakePiggyback(100, 7)
    commits.write(INSERT, [(1,)])
    assert kept(db) == [1, 7]
    assert [str(error) for error in piggyback.errors] == ["CHECK constraint failed: value < 100"]
