"""The knees of a server, predicted from the cost of chats in a run, beside the measured ones; and a plan of servers.

python benchmarks/capacity.py outputs/RUN [--customers 1000] [--price-per-hour 0.10] [--json]

The run needs notebook 02 (`bankllm run --profile quick --only 02`), whose section on costs measures chats of one user
and of many. The sweeps and the curve of the run are not used for the prediction. docs/guides/capacity.md explains the
plan.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1]))

from bankllm.assistant.language.engine_turns import AT_ONCE
from bankllm.errors import BankLLMError, UsageError
from bankllm.evidence.raw_files import inside, read_table
from bankllm.evidence.statistics.rates import consumption, goodput, knee, share_knee
from bankllm.evidence.statistics.samples import maximum, percentile, proportion
from bankllm.evidence.statistics.statistic import Rows, grouped
from bankllm.loadtest.experiments.rate_sweep import NOT_DEGRADED, SERVED, knee_of, sweep
from bankllm.loadtest.load import MAX_RATE
from benchmarks.simulation import SimulatedService, Station, offer

SEEDS = range(3)
STEP_S, MAX_STEPS = 4, 12
"""Of the simulated sweep, which takes no time, and so can be finer than a measured one."""
UTILISATION = 0.7
"""Share of the capacity that is used at the planned rate: the knee leaves nothing for bursts and failed machines."""
REPLICA_CORES = 2
"""Cores of a machine, for the numbers of machines."""
MODEL_REQUESTS = 600
MOST_WORKERS = 8


def rows_of(run: Path, name: str) -> Rows:
    path = f"raw/02_{name}.csv.gz"
    if not (run / path).is_file():
        raise UsageError(f"{run}: {path} is missing. Run notebook 02: bankllm run --profile quick --only 02")
    return read_table(inside(run, path), path)


def select(rows: Rows, **wanted: str) -> Rows:
    found = [each for each in rows if wanted.items() <= each.items() and not each.get("error")]
    if not found:
        raise UsageError(f"Expected rows with {wanted}; found none among {len(rows)}. Run notebook 02 again.")
    return found


def total(rows: Rows, column: str) -> float:
    return math.fsum(float(each[column]) for each in rows)


def cpu_s(chunks: Rows, path: str, part: str, per: str) -> float:
    """Return the CPU seconds of a chat or a text of the busy chunks."""
    busy = select(chunks, path=path, load="busy")
    return (consumption(busy, f"{part}_before_s", f"{part}_after_s", per).value or 0) / 1000


def service_of(chunks: Rows, chats: Rows, workers: int = 1) -> SimulatedService:
    """Return the service with so many workers that the rows of `unit_cost.measure_cost` describe.

    A worker is a server that uses one core, so a chat among many takes it for its CPU time. The time of a text among
    several is that in the rows, and the texts in progress follow from Little's law.
    """
    fast = [float(each["service_ms"]) / 1000 for each in select(chats, path="rules", load="one")]
    busy = select(chunks, path="rules", load="busy")[0]
    cores, each_s = int(busy["cores"]), cpu_s(chunks, "rules", "all", "chats")
    servers = min(workers, cores)
    chat = Station(servers, fast, each_s / fmean(fast), servers * float(busy["users"]))
    asked = select(chats, path="model", load="one")
    alone, together = (
        [float(each["classify_ms"]) / 1000 for each in rows if each["generated"] == "yes"]
        for rows in (asked, select(chats, path="model", load="busy"))
    )
    if not alone or not together:
        return SimulatedService(chat, cores=cores)
    in_progress = sum(together) / total(select(chunks, path="model", load="busy"), "seconds")
    model = Station(AT_ONCE, alone, fmean(together) / fmean(alone), max(1.0, in_progress))
    return SimulatedService(chat, model, sum(each["consulted"] == "yes" for each in asked) / len(asked), cores)


def simulated_knee(service: SimulatedService) -> float:
    """Return the median knee of simulated sweeps, in requests per second."""
    found = []
    for seed in SEEDS:
        offered = partial(offer, service, seed=seed)
        steps = sweep(offered, first_rate=60, step_s=STEP_S, max_steps=MAX_STEPS, max_s=math.inf)
        found.append(knee_of(steps) or 0.0)
    return median(found)


def simulated_steps(service: SimulatedService, measured: Rows) -> dict[float, Rows]:
    """Return offered rate → simulated rows, at the rates and with the numbers of requests of measured rows."""
    steps = {}
    for given, step in sorted(grouped(measured, "offered_per_s").items(), key=lambda item: float(item[0])):
        results = (offer(service, rate=float(given), requests=len(step), seed=seed) for seed in SEEDS)
        steps[float(given)] = cast(Rows, [row for result in results for row in result.measured])
    return steps


def side_by_side(service: SimulatedService, measured: Rows) -> Iterator[dict[str, Any]]:
    by_rate = {float(given): step for given, step in grouped(measured, "offered_per_s").items()}
    for rate, predicted in simulated_steps(service, measured).items():
        line: dict[str, Any] = {"offered/s": rate}
        for name, rows in (("measured", by_rate[rate]), ("predicted", predicted)):
            line[f"p95 ms, {name}"] = percentile(rows, "latency_ms", 0.95).value
            share = len(SEEDS) if name == "predicted" else 1  # the seeds overlap in time
            line[f"goodput/s, {name}"] = (goodput(rows, **SERVED).value or 0) / share
            line[f"by the model, {name}"] = proportion(rows, "served_by", "model").value
            line[f"had time, {name}"] = share_of_time(rows)
        yield line


def model_knee(service: SimulatedService) -> float:
    """Return the highest rate at which the model has time for 90 % of the chats, of rates 5 % apart; 0 if none is."""
    highest, rate = 0.0, 0.05
    while rate < MAX_RATE:
        rows = cast(Rows, offer(service, rate=rate, requests=MODEL_REQUESTS).measured)
        if (share_of_time(rows) or 0) < NOT_DEGRADED["least_share"]:
            return highest
        highest, rate = rate, 1.05 * rate
    return highest


def share_of_time(rows: Rows) -> float | None:
    """Return the share of the chats for which the model had time, or that needed none."""
    return proportion(rows, NOT_DEGRADED["column"], NOT_DEGRADED["equals"]).value


def plan(chunks: Rows, service: SimulatedService, per_s: float, price_per_hour: float | None) -> dict[str, Any]:
    """Return cores, replicas, memory and money for `per_s` chats per second, by the formulas of the capacity guide."""
    chat_s, text_s = cpu_s(chunks, "rules", "all", "chats"), cpu_s(chunks, "model", "engine", "texts")
    texts_per_s = per_s * service.consulted
    memory, installed = (
        maximum(select(chunks, path=path, load="busy"), "all_memory_bytes").value or 0 for path in ("rules", "model")
    )
    cores = {"workers": per_s * chat_s / UTILISATION, "engines": texts_per_s * text_s / UTILISATION}
    replicas = {part: math.ceil(each / REPLICA_CORES) for part, each in cores.items()}
    gib = (replicas["workers"] * memory + replicas["engines"] * (installed - memory)) / 2**30
    planned = {"chats/s": per_s, "CPU s per chat": chat_s, "texts/s": texts_per_s, "CPU s per text": text_s}
    planned |= {f"cores of {part}": each for part, each in cores.items()}
    planned |= {f"{part} ({REPLICA_CORES} cores each)": each for part, each in replicas.items()} | {"memory GiB": gib}
    if price_per_hour is not None:
        planned["USD/h"] = price_per_hour * sum(replicas.values())
    return planned


def sweeps(run: Path) -> dict[int, Rows]:
    """Return number of workers → judged rows, of the sweeps of chats that the run has."""
    found = {}
    for workers in range(1, MOST_WORKERS + 1):
        if workers == 1 or (run / f"raw/02_sweep_chat_w{workers}.csv.gz").is_file():
            found[workers] = [each for each in rows_of(run, f"sweep_chat_w{workers}") if each["judged"] == "yes"]
    return found


def report(run: Path, per_s: float, price_per_hour: float | None) -> dict[str, Any]:
    chunks, chats, curve = rows_of(run, "cost"), rows_of(run, "cost_chats"), rows_of(run, "curve")
    service, measured = service_of(chunks, chats), sweeps(run)
    rules = {workers: SimulatedService(service_of(chunks, chats, workers).chat) for workers in measured}
    knees = {
        f"rules, workers: {workers}": (knee(measured[workers], "offered_per_s", **SERVED), simulated_knee(each))
        for workers, each in rules.items()
    }
    if service.model:
        knees["model"] = (share_knee(curve, "offered_per_s", **NOT_DEGRADED), model_knee(service))
    return {
        "service": {"cores": service.cores, "chat s": fmean(service.chat.times_s)}
        | {"chat factor": service.chat.busy_factor, "consulted": service.consulted}
        | ({"text s": fmean(service.model.times_s), "text factor": service.model.busy_factor} if service.model else {}),
        "knees": [
            {"path": path, "measured/s": found.value, "predicted/s": predicted}
            | {"apart": predicted / found.value - 1 if found.value else None}
            | {"why": found.why_no_ci95 or found.invalid_because}
            for path, (found, predicted) in knees.items()
        ],
        **{
            f"sweep, workers: {workers}": list(side_by_side(rules[workers], rows)) for workers, rows in measured.items()
        },
        "curve": list(side_by_side(service, curve)) if service.model else [],
        "plan": plan(chunks, service, per_s, price_per_hour),
    }


def show(name: str, found: Any) -> Iterator[str]:
    yield f"\n{name}"
    for line in found if isinstance(found, list) else [found]:
        yield "  " + ", ".join(
            f"{key} {f'{value:.4g}' if isinstance(value, float) else value}" for key, value in line.items()
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with notebook 02")
    parser.add_argument("--customers", type=float, default=1000, help="chats per second of the plan")
    parser.add_argument("--price-per-hour", type=float, help=f"price of a machine with {REPLICA_CORES} cores, in USD")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    try:
        found = report(options.run, options.customers, options.price_per_hour)
    except BankLLMError as error:
        sys.exit(f"Error: {error}")
    print(
        json.dumps(found, indent=1)
        if options.json
        else "\n".join(line for each in found for line in show(each, found[each]))
    )


if __name__ == "__main__":
    main()
