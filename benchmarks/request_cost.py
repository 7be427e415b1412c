"""CPU time of metrics and log: µs per request, and ms per reply of /metrics and /health/metrics. Best of 5.

python benchmarks/request_cost.py               # a single process
PROMETHEUS_MULTIPROC_DIR=$(mktemp -d) python benchmarks/request_cost.py     # a worker with a shared folder

stderr is /dev/null, so the time of a terminal or a log collector is not included.
"""

import contextlib
import logging
import logging.config
import os
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from bankllm.serving.logs import log_config
from bankllm.telemetry.metrics import ServerMetrics, Stage

LINE = {"request_id": "0" * 32, "route": "/api/v1/chat", "method": "POST", "status": 200, "duration_ms": 12.3}


def best_us(work: Callable[[], object], times: int) -> float:
    return 1e6 * min(timeit.repeat(work, timer=time.process_time, number=times, repeat=5)) / times


def log_us(log_file: Path | None) -> float:
    with Path(os.devnull).open("w") as null, contextlib.redirect_stderr(null):
        logging.config.dictConfig(log_config(log_file))
        return best_us(lambda: logging.getLogger("bankllm.access").info("request", extra=LINE), 20_000)


def main() -> None:
    metrics = ServerMetrics("minilm")
    for number in range(20_000):
        metrics.observe_request("/api/v1/chat", "POST", (200, 422, 503)[number % 3], (number * 7919 % 10_000) / 1e5)
    stages = dict.fromkeys(get_args(Stage), 0.002)
    request = best_us(lambda: metrics.observe_request("/api/v1/chat", "POST", 200, 0.03), 20_000)
    print(f"metrics of a request  {request:6.2f} us")
    print(f"metrics of a reply    {best_us(lambda: metrics.observe_reply(stages, 'template'), 20_000):6.2f} us")
    with tempfile.TemporaryDirectory() as folder:
        print(f"log to stderr         {log_us(None):6.2f} us")
        print(f"and to a file         {log_us(Path(folder, 'app.log')):6.2f} us")
    print(f"/metrics              {best_us(metrics.render, 20) / 1000:6.2f} ms")
    print(f"/health/metrics       {best_us(metrics.summary, 20) / 1000:6.2f} ms")
    sys.exit(request > 15)


if __name__ == "__main__":
    main()
