"""What an access line costs, in microseconds of CPU time: to stderr alone, and to a shared file as well.

python tests/benchmarks/log_cost.py

stderr is /dev/null here: what a terminal or a collector takes to read is its own. Best of 5.
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


with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
    sys.stderr = nowhere
    for name, log_file in (("stderr", None), ("stderr and file", Path(folder) / "app.log")):
        configure(log_file)
        print(f"{name:<16} {best_us(access_line('/api/v1/chat')):6.2f} us a request")
    print(f"{'not written':<16} {best_us(access_line('/health')):6.2f} us a request (health and metrics: DEBUG)")
    sys.stderr = sys.__stderr__
