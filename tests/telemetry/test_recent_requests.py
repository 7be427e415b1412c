"""The ring of recent requests: its owner, its content, and reads during writes."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import ServerError, UsageError
from bankllm.telemetry import recent_requests
from bankllm.telemetry.recent_requests import RecentRequests, live_workers


def test_a_ring_is_live_while_its_process_holds_it(tmp_path: Path) -> None:
    ring = RecentRequests(5, tmp_path)
    ring.add(0.1, False)
    assert len(live_workers(tmp_path)) == 1
    with pytest.raises(UsageError, match="already counts requests"):
        RecentRequests(5, tmp_path)
    del ring
    assert live_workers(tmp_path) == []
    # The process id is free again; the entries of the old ring still count, in addition to the new ring.
    again = RecentRequests(5, tmp_path)
    again.add(0.2, True)
    total, entries = again.read()
    assert total == 2
    assert sorted(entries["seconds"]) == pytest.approx([0.1, 0.2])
    assert again.workers() == 1
    for path in tmp_path.glob("*.ring"):
        path.unlink()
    with pytest.raises(ServerError, match="the files were deleted while the server was running"):
        again.read()


def test_entries_overwritten_during_the_copy_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = RecentRequests(4)
    for number in range(4):
        ring.add(number, False)
    read_entries = np.frombuffer

    def slow_copy(*arguments: object, **named: object):
        copied = read_entries(*arguments, **named)  # type: ignore[call-overload]
        for number in range(4, 6):
            ring.add(number, False)
        return copied

    monkeypatch.setattr(recent_requests.np, "frombuffer", slow_copy)
    total, entries = ring.read()
    assert total == 4
    assert sorted(entries["seconds"]) == [2.0, 3.0]


def test_reads_are_consistent_while_another_thread_writes() -> None:
    ring, done = RecentRequests(50), threading.Event()

    def count() -> None:
        number = 0
        while not done.is_set():
            number += 1
            ring.add(number, number % 2 == 0)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            total, entries = ring.read()
            seen = np.sort(entries["seconds"])
            # Consecutive numbers up to the last counted one, each with its flag: no incomplete or duplicate entry.
            assert not len(seen) or seen[-1] == total
            assert (np.diff(seen) == 1).all()
            assert (entries["failed"] == (entries["seconds"] % 2 == 0)).all()
    finally:
        done.set()
        thread.join()
