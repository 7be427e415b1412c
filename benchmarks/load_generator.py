"""How late the open-loop generator sends requests, against an endpoint that does no work.

python benchmarks/load_generator.py    # exits with 1 if requests are sent too late at 500 requests per second

A rate is sustained if every request was answered, if the p99 of the time from due to sent is at most 5 ms, and if the
generator used at most 90 % of a core. The endpoint and the generator need a core each: close other programs first.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bankllm.evidence.record_rules import MAX_GENERATOR_CPU_SHARE
from bankllm.loadtest.drivers.open_loop import MAX_LATENESS_MS, lateness_rows
from bankllm.loadtest.load import LoadResult
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from tests.support.null_endpoint import ENDPOINT

FLOOR = 500
RATES = (FLOOR, FLOOR, FLOOR, 750, 1000, 1500, 2000, 3000)
LOAD: dict[str, Any] = {
    "messages": ["What is my account balance?", "My card has not arrived"],
    "customers": ["CUST001"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="seconds per rate")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES)
    options = parser.parse_args()
    print("  rate/s  late p50 ms  late p99 ms  max ms  latency p50 ms  p99 ms  CPU  failed  sustained")
    sustained: dict[int, bool] = {}
    with ServerProcess(program=ENDPOINT) as endpoint, tempfile.TemporaryDirectory() as folder:
        for rate in options.rates:
            load = LOAD | {"rate": rate, "requests": round(rate * options.seconds), "warm_up": rate}
            held = describe(rate, run_load(endpoint.url, "open-loop", output=Path(folder), **load))
            sustained[rate] = held and sustained.get(rate, True)
    best = max((rate for rate, held in sustained.items() if held), default=0)
    print(f"highest sustained rate: {best:,} requests per second")
    return 0 if sustained.get(FLOOR, True) else 1


def describe(rate: int, result: LoadResult) -> bool:
    """Print one line of the table, and return whether the rate was sustained."""
    late = sorted(float(each["latency_ms"]) for each in lateness_rows(result.measured))
    latency = sorted(float(each["latency_ms"]) for each in result.measured)
    share, failed = result.generator_cpu_share or 0, sum(result.errors.values())
    on_time = percentile(late, 0.99) <= MAX_LATENESS_MS and share <= MAX_GENERATOR_CPU_SHARE
    held = on_time and not failed and len(late) == result.load.requests
    print(
        f"{rate:>8,}  {percentile(late, 0.5):>11.2f}  {percentile(late, 0.99):>11.2f}  {late[-1]:>6.1f}  "
        f"{percentile(latency, 0.5):>14.2f}  {percentile(latency, 0.99):>6.2f}  {share:>3.0%}  {failed:>6,}  "
        f"{'yes' if held else 'no'}",
        flush=True,
    )
    return held


def percentile(ordered: list[float], q: float) -> float:
    return ordered[int(q * (len(ordered) - 1))]


if __name__ == "__main__":
    sys.exit(main())
