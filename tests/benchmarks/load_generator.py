"""How many requests a second the open-loop generator sends on time, against an endpoint that only answers.

python tests/benchmarks/load_generator.py    # exits 1 where 2,000 a second do not hold

The endpoint has one core and the generator another. A rate holds if every request was answered, sends were at most
2 ms after due at p99 and the generator was busy for at most 90 % of its core. Close other programs first; run by root,
the generator comes before them.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bankllm.loadtest.drivers.open_loop import MAX_LATENESS_MS
from bankllm.loadtest.runner import MAX_GENERATOR_CPU_SHARE, run_load
from bankllm.loadtest.server_process import ServerProcess

ENDPOINT = (sys.executable, str(Path(__file__).parents[1] / "null_endpoint.py"))
RATES = (500, 1000, 2000, 3000, 4000, 6000, 8000, 10_000)
FLOOR = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="for each rate")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("not measured: the endpoint and the generator need a core each, and there is one")
        return 0
    print("  rate/s  late p50 ms  late p99 ms  latency p50 ms  p99 ms  CPU  failed  holds")
    best = 0
    os.sched_setaffinity(0, {cores[0]})
    with ServerProcess(program=ENDPOINT) as endpoint, tempfile.TemporaryDirectory() as folder:
        os.sched_setaffinity(0, {cores[1]})  # the generator inherits it
        for rate in sorted(options.rates):
            if not try_rate(endpoint.url, rate, options.seconds, Path(folder)):
                break
            best = rate
    print(f"highest rate up to which all hold: {best:,} a second")
    return 0 if best >= FLOOR else 1


def try_rate(url: str, rate: int, seconds: float, folder: Path) -> bool:
    """Print one line of the table; whether the rate holds."""
    requests = round(rate * seconds)
    load = {"messages": ["What is my account balance?", "My card has not arrived"], "customers": ["CUST001", "CUST002"]}
    result = run_load(url, "open-loop", output=folder, rate=rate, requests=requests, warm_up=rate, **load)  # type: ignore[arg-type]
    late = [1000 * (float(each["sent_s"]) - float(each["scheduled_s"])) for each in result.measured]
    share, failed = result.generator_cpu_share or 0, sum(result.errors.values())
    holds = percentile(late, 0.99) <= MAX_LATENESS_MS and share <= MAX_GENERATOR_CPU_SHARE and not failed and len(late) == requests
    latency = [float(each["latency_ms"]) for each in result.measured]
    print(
        f"{rate:>8,}  {percentile(late, 0.5):>11.3f}  {percentile(late, 0.99):>11.3f}  "
        f"{percentile(latency, 0.5):>14.2f}  {percentile(latency, 0.99):>6.2f}  {share:>3.0%}  {failed:>6,}  "
        f"{'yes' if holds else 'no'}",
        flush=True,
    )
    return holds


def percentile(values: list[float], q: float) -> float:
    return sorted(values)[int(q * (len(values) - 1))]


if __name__ == "__main__":
    sys.exit(main())
