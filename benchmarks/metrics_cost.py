"""CPU time of the metrics: µs per request, and ms per reply of /metrics and /health/metrics.

python benchmarks/metrics_cost.py

Measured in a single process and in the last of 4 workers that share a folder, each with a full window. Best of 5.
"""

import os
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from typing import get_args

from bankllm.telemetry.metrics import ServerMetrics, Stage
from bankllm.telemetry.multiprocess import FOLDER_VARIABLE

WORKERS = 4
REQUESTS = 20_000
LIMIT_US = 15.0


def best_us(work: Callable[[], object], times: int) -> float:
    return 1e6 * min(timeit.repeat(work, timer=time.process_time, number=times, repeat=5)) / times


def fill(metrics: ServerMetrics) -> None:
    """Fill the window with requests in a few series, as the routes of the service have."""
    for number in range(REQUESTS):
        status = (200, 200, 200, 422, 503)[number % 5]
        metrics.observe_request("/api/v1/chat", "POST", status, (number * 7919 % 10_000) / 1e5)


def report(name: str) -> None:
    metrics = ServerMetrics("minilm")
    fill(metrics)
    request = best_us(lambda: metrics.observe_request("/api/v1/chat", "POST", 200, 0.03), REQUESTS)
    stages = dict.fromkeys(get_args(Stage), 0.002)
    reply = best_us(lambda: metrics.observe_reply(stages, "template"), REQUESTS)
    render, summary = (best_us(work, 20) / 1000 for work in (metrics.render, metrics.summary))
    print(
        f"{name:<12} request {request:5.2f} us (limit {LIMIT_US:g})   reply {reply:5.2f} us   "
        f"/metrics {render:5.2f} ms   /health/metrics {summary:5.2f} ms"
    )
    if request > LIMIT_US:
        sys.exit(1)


def other_worker() -> None:
    """Fill a window, print `full`, and wait for the end of stdin."""
    metrics = ServerMetrics("minilm")
    fill(metrics)
    print("full", flush=True)
    sys.stdin.read()


def main() -> None:
    report("one process")
    with tempfile.TemporaryDirectory() as folder:
        shared = os.environ | {FOLDER_VARIABLE: folder}
        command = [sys.executable, __file__]
        others = [
            subprocess.Popen([*command, "other"], env=shared, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(WORKERS - 1)
        ]
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()
        result = subprocess.run([*command, "report"], env=shared, check=False)
        for other in others:
            other.communicate()
    sys.exit(result.returncode)


if __name__ == "__main__":
    if sys.argv[1:] == ["other"]:
        other_worker()
    elif sys.argv[1:] == ["report"]:
        report(f"{WORKERS} workers")
    else:
        main()
