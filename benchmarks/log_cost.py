"""CPU time of an access log line in µs: to stderr only, and to stderr and a shared file.

python benchmarks/log_cost.py

stderr is /dev/null, so the time of a terminal or a log collector is not included. Best of 5.
"""

import os
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

from bankllm.serving.errors import _log_request
from bankllm.serving.logs import configure

LINES = 20_000


def best_us(work: Callable[[], object]) -> float:
    return 1e6 * min(timeit.repeat(work, timer=time.process_time, number=LINES, repeat=5)) / LINES


def access_line(route: str) -> Callable[[], None]:
    return lambda: _log_request("0123456789abcdef0123456789abcdef", route, "POST", 200, 0.0123)


with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as null:
    sys.stderr = null
    for name, log_file in (("stderr", None), ("stderr and file", Path(folder) / "app.log")):
        configure(log_file)
        print(f"{name:<16} {best_us(access_line('/api/v1/chat')):6.2f} us per request")
    print(f"{'not written':<16} {best_us(access_line('/health')):6.2f} us per request (health and metrics: DEBUG)")
    sys.stderr = sys.__stderr__
