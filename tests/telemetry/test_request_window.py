"""The window of recent requests: accuracy of its percentiles, and the minutes that it covers."""

from pathlib import Path

import numpy as np
import pytest

from bankllm.telemetry import request_window
from bankllm.telemetry.request_window import RequestWindow
from tests.support.server_client import until


def test_percentiles_over_all_workers_are_within_two_percent(tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    seconds = np.concatenate([generator.normal(0.004, 0.0005, 11_000), generator.normal(0.9, 0.1, 1000)])
    windows = [RequestWindow(tmp_path) for _ in range(4)]
    for number, value in enumerate(seconds):
        windows[number % 4].add(float(value), number % 100 == 0)
    for window in windows:
        window.read()  # publishes its requests
    total, recent, _ = windows[0].read()
    assert (total, recent.durations.count, recent.failed) == (12_000, 12_000, 120)
    for q in (0.5, 0.95, 0.99):
        exact = float(np.quantile(seconds, q))
        assert recent.durations.get_quantile_value(q) == pytest.approx(exact, rel=0.02)


def test_requests_leave_the_window_after_ten_minutes_and_stay_in_the_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [6000.0]
    monkeypatch.setattr(request_window.time, "monotonic", lambda: now[0])
    old, window = RequestWindow(tmp_path), RequestWindow(tmp_path)
    for seconds in (5.0, 5.0, 5.0):
        old.add(seconds, True)
    assert old.read()[0] == 3
    now[0] += 60 * 9
    window.add(0.01, False)
    assert (window.read()[0], window.read()[1].durations.count, window.read()[1].failed) == (4, 4, 3)
    now[0] += 60
    total, recent, seconds = window.read()
    assert (total, recent.durations.count, recent.failed, seconds) == (4, 1, 0, 60.0)
    assert recent.durations.get_quantile_value(0.5) == pytest.approx(0.01, rel=0.01)


def test_requests_of_another_worker_appear_without_a_read(tmp_path: Path) -> None:
    busy, reader = RequestWindow(tmp_path), RequestWindow(tmp_path)
    busy.add(0.25, False)
    until(lambda: reader.read()[0] == 1)
