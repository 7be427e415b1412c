"""Metrics over several worker processes: sums, percentiles over all workers, and the values of a killed worker."""

import multiprocessing
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from bankllm import __version__
from bankllm.errors import UsageError
from bankllm.telemetry.metrics import ServerMetrics
from bankllm.telemetry.multiprocess import FOLDER_VARIABLE, shared_folder
from tests.support.prometheus_text import Samples, samples
from tests.support.server_client import until


def serve_commands(pipe: Connection) -> None:
    """Run a worker that calls methods of its `ServerMetrics` on request, until it is killed."""
    metrics = ServerMetrics("minilm")
    pipe.send("ready")
    while True:
        name, *arguments = pipe.recv()
        pipe.send(getattr(metrics, name)(*arguments))


class Worker:
    """A worker process, controlled over a pipe."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, worker_end = context.Pipe()
        self.process = context.Process(target=serve_commands, args=(worker_end,), daemon=True)
        self.process.start()

    def call(self, name: str, *arguments: object):
        self.pipe.send((name, *arguments))
        return self.answer()

    def answer(self):
        assert self.pipe.poll(60), "the worker does not answer"
        return self.pipe.recv()

    def requests(self, *seconds: float, status: int = 200) -> None:
        for duration in seconds:
            self.call("observe_request", "/api/v1/chat", "POST", status, duration)

    def samples(self) -> Samples:
        return samples(self.call("render")[0])

    def summary_of(self, requests: int) -> dict[str, object]:
        """The summary as soon as it has this number of requests."""
        until(lambda: self.call("summary")["requests_total"] >= requests)
        return self.call("summary")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[Worker]]]:
    """A function that starts workers that share `tmp_path`; they are killed after the test."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    started: list[Worker] = []

    def start_workers(count: int) -> list[Worker]:
        workers = [Worker() for _ in range(count)]
        started.extend(workers)
        assert [worker.answer() for worker in workers] == ["ready"] * count
        return workers

    yield start_workers
    for worker in started:
        worker.kill()


LABELS = (("method", "POST"), ("route", "/api/v1/chat"), ("status", "200"))


@pytest.mark.slow
def test_each_worker_reports_all_and_a_killed_worker_stays_counted(start) -> None:
    first, second, third = start(3)
    first.requests(*[0.01] * 6)
    second.requests(*[0.03] * 4)
    third.requests(*[0.2] * 2)
    third.requests(0.4, status=503)
    for worker in (first, second, third):
        values = worker.samples()
        assert values["http_requests_total", LABELS] == 12
        assert values["http_request_duration_seconds_count", LABELS] == 12
        assert values["http_request_duration_seconds_bucket", (("le", "0.025"), *LABELS)] == 6
        assert values["bankllm_build_info", (("model", "minilm"), ("version", __version__))] == 1
        assert values["bankllm_stage_duration_seconds_count", (("stage", "queue"),)] == 0
        assert pids(values) == {str(w.process.pid) for w in (first, second, third)}
        summary = worker.summary_of(13)
        assert (summary["requests_total"], summary["window_requests"], summary["workers"]) == (13, 13, 3)
        assert summary["latency_p50_ms"] == pytest.approx(30, rel=0.01)
        assert summary["error_rate"] == pytest.approx(1 / 13)

    third.kill()
    values = first.samples()
    assert values["http_requests_total", LABELS] == 12
    assert pids(values) == {str(w.process.pid) for w in (first, second)}
    summary = second.call("summary")
    assert (summary["requests_total"], summary["window_requests"], summary["workers"]) == (13, 13, 2)

    [fourth] = start(1)
    fourth.requests(0.01)
    assert first.summary_of(14)["workers"] == 3


def pids(values: Samples) -> set[str]:
    """The ids of the processes with process metrics, all of which must be positive."""
    names = ("process_resident_memory_bytes", "process_cpu_seconds_total")
    shown = [{dict(labels)["pid"]: value for (n, labels), value in values.items() if n == name} for name in names]
    assert shown[0].keys() == shown[1].keys()
    assert all(value > 0 for values in shown for value in values.values())
    return set(shown[0])


@pytest.mark.slow
def test_gauges_of_live_workers_and_counts_of_all_workers_are_summed(start, tmp_path: Path) -> None:
    first, second = start(2)
    for worker, depth, outbox in ((first, 5, (5.0, 2.0)), (second, 3, (3.0, 1.0))):
        worker.call("watch_queue", partial(int, depth))
        worker.call("watch_outbox", partial(tuple, outbox))
        worker.call("observe_batch", 8)
        worker.call("observe_reply", {"tokenise": 0.0002}, "template")
        worker.call("set_model_info", {"model": "minilm+lora"})
    values = first.samples()
    assert values["bankllm_queue_depth", ()] == 8
    assert values["bankllm_replies_total", (("fallback", "none"), ("responder", "template"))] == 2
    assert values["bankllm_stage_duration_seconds_count", (("stage", "tokenise"),)] == 2
    assert values["bankllm_model_info", (("model", "minilm+lora"),)] == 1
    # The workers share one outbox, so the most recent value counts.
    for worker, depth, age in ((first, 5, 2), (second, 3, 1), (first, 5, 2)):
        values = worker.samples()
        assert (values["bankllm_outbox_depth", ()], values["bankllm_outbox_oldest_seconds", ()]) == (depth, age)
    second.kill()
    assert first.samples()["bankllm_queue_depth", ()] == 5
    assert first.samples()["bankllm_replies_total", (("fallback", "none"), ("responder", "template"))] == 2
    assert not list(tmp_path.glob(f"gauge_*_{second.process.pid}.db"))


def test_the_folder_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared_folder() is None
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(UsageError, match="create it"):
        ServerMetrics("minilm")
