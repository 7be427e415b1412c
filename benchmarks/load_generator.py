"""Highest rate at which the open-loop generator sends requests on time, against an endpoint that does no work.

python benchmarks/load_generator.py    # exits with 1 if 2,000 requests per second are not sustained

The endpoint and the generator use one core each. A rate is sustained if every request was answered, if the p99 of the
time from due to sent is at most 2 ms, and if the generator used at most 90 % of its core. Close other programs first.
As root, the generator has real-time priority over them.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bankllm.evidence.validity_marks import MAX_GENERATOR_CPU_SHARE
from bankllm.loadtest.drivers.open_loop import MAX_LATENESS_MS
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess

ENDPOINT = (sys.executable, str(Path(__file__).parents[1] / "tests" / "support" / "null_endpoint.py"))
RATES = (500, 1000, 2000, 3000, 4000, 6000, 8000, 10_000)
FLOOR = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="seconds per rate")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("not measured: the endpoint and the generator need one core each, found 1 core")
        return 0
    print("  rate/s  late p50 ms  late p99 ms  latency p50 ms  p99 ms  CPU  failed  sustained")
    best = 0
    os.sched_setaffinity(0, {cores[0]})
    with ServerProcess(program=ENDPOINT) as endpoint, tempfile.TemporaryDirectory() as folder:
        os.sched_setaffinity(0, {cores[1]})  # the generator inherits this affinity
        for rate in sorted(options.rates):
            if not try_rate(endpoint.url, rate, options.seconds, Path(folder)):
                break
            best = rate
    print(f"highest sustained rate: {best:,} requests per second")
    return 0 if best >= FLOOR else 1


def try_rate(url: str, rate: int, seconds: float, folder: Path) -> bool:
    """Measure a rate, print one line of the table, and return whether the rate is sustained."""
    requests = round(rate * seconds)
    load = {"messages": ["What is my account balance?", "My card has not arrived"], "customers": ["CUST001", "CUST002"]}
    result = run_load(url, "open-loop", output=folder, rate=rate, requests=requests, warm_up=rate, **load)  # type: ignore[arg-type]
    late = [1000 * (float(each["sent_s"]) - float(each["scheduled_s"])) for each in result.measured]
    share, failed = result.generator_cpu_share or 0, sum(result.errors.values())
    on_time = percentile(late, 0.99) <= MAX_LATENESS_MS and share <= MAX_GENERATOR_CPU_SHARE
    sustained = on_time and not failed and len(late) == requests
    latency = [float(each["latency_ms"]) for each in result.measured]
    print(
        f"{rate:>8,}  {percentile(late, 0.5):>11.3f}  {percentile(late, 0.99):>11.3f}  "
        f"{percentile(latency, 0.5):>14.2f}  {percentile(latency, 0.99):>6.2f}  {share:>3.0%}  {failed:>6,}  "
        f"{'yes' if sustained else 'no'}",
        flush=True,
    )
    return sustained


def percentile(values: list[float], q: float) -> float:
    return sorted(values)[int(q * (len(values) - 1))]


if __name__ == "__main__":
    sys.exit(main())
