"""The ring of recent requests: whose it is, what is in it, and what a reader sees while it is written."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import ServerError, UsageError
from bankllm.telemetry import recent_requests as room
from bankllm.telemetry.recent_requests import Recent, live_workers


def test_a_ring_is_live_as_long_as_its_process_holds_it(tmp_path: Path) -> None:
    ring = Recent(5, tmp_path)
    ring.add(0.1, False)
    assert len(live_workers(tmp_path)) == 1
    with pytest.raises(UsageError, match="already counts requests"):
        Recent(5, tmp_path)
    del ring
    assert live_workers(tmp_path) == []
    # The id is free again: the ring that stayed counts on, beside the new one.
    again = Recent(5, tmp_path)
    again.add(0.2, True)
    total, entries = again.read()
    assert total == 2
    assert sorted(entries["seconds"]) == pytest.approx([0.1, 0.2])
    assert again.workers() == 1
    for path in tmp_path.glob("*.ring"):
        path.unlink()
    with pytest.raises(ServerError, match="emptied while the server ran"):
        again.read()


def test_what_is_overwritten_during_the_copy_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Recent(4)
    for number in range(4):
        ring.add(number, False)
    read_entries = np.frombuffer

    def slow_copy(*arguments: object, **named: object):
        copied = read_entries(*arguments, **named)  # type: ignore[call-overload]
        for number in range(4, 6):
            ring.add(number, False)
        return copied

    monkeypatch.setattr(room.np, "frombuffer", slow_copy)
    total, entries = ring.read()
    assert total == 4
    assert sorted(entries["seconds"]) == [2.0, 3.0]


def test_figures_are_read_while_another_thread_counts() -> None:
    ring, done = Recent(50), threading.Event()

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
            # Consecutive numbers up to the last counted one, each with its own flag: nothing torn, nothing twice.
            assert not len(seen) or seen[-1] == total
            assert (np.diff(seen) == 1).all()
            assert (entries["failed"] == (entries["seconds"] % 2 == 0)).all()
    finally:
        done.set()
        thread.join()
