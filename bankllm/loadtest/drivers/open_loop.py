"""The open loop as a driver: `generator.py` in a process of its own, so that the caller's kernel stays clean.

A request is sent when it is due, however slow the server is; its latency counts from that moment. So a stall shows
in every request that was due during it, and not only in the one that was caught in it (coordinated omission).
"""

import json
import signal
import sys
from pathlib import Path

from bankllm.errors import ServerError
from bankllm.evidence.statistics.registry import samples_needed
from bankllm.loadtest.drivers.locust_driver import read_rows
from bankllm.loadtest.load import DriverResult, Load, RequestRow, errors_of, measured, span_s
from bankllm.util import processes

MOST_LATE_MS = 2.0
MOST_LATE_SHARE = 0.1


def run_open_loop(load: Load, folder: Path) -> DriverResult:
    """Send requests at `load.rate` a second. Leaves `open_loop.csv` and `open_loop.log`.

    Raises `ServerError` if the generator failed; one that ended early keeps its rows and is marked invalid.
    """
    rows_file, generator = folder / "open_loop.csv", folder / "generator.json"
    plan = load.plan() | {"rows": rows_file.name, "generator": generator.name}
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    for old in (rows_file, generator):
        old.unlink(missing_ok=True)
    log = folder / "open_loop.log"
    command = [sys.executable, "-m", "bankllm.loadtest.drivers.open_loop_process", "plan.json"]
    child = processes.run(
        command, log, load.longest_s(), {"BANKLLM_LOAD_TOKENS": json.dumps(load.tokens())}, signal.SIGTERM
    )
    rows = read_rows(rows_file)
    if not rows and not child.interrupted:
        raise ServerError(
            f"The open-loop generator kept no row (exit code {child.returncode}). It said:\n{processes.tail(log)}"
        )
    mine = measured(rows)
    told = json.loads(generator.read_text(encoding="utf-8")) if generator.exists() else None
    asked = load.warm_up + load.requests
    because = [] if told and not told["ended"] else [_ended_early(told, len(rows), asked)]
    because += [late] if (late := lateness_fault(rows)) else []
    crowded = sum(each["error"] == "NoFreeConnection" for each in rows)
    because += [f"{crowded} requests found no connection left to open: the loop was closed"] if crowded else []
    return DriverResult(
        rows=rows,
        errors=errors_of(rows),
        seconds=span_s(rows),
        generator_cpu_share=told["cpu_s"] / told["wall_s"] if told else None,
        limits=_limits(told, mine),
        invalid_because="; ".join(because) or None,
        interrupted=child.interrupted,
    )


def _limits(told: dict | None, mine: list[RequestRow]) -> tuple[str, ...]:
    limits = [f"sent {_lateness(mine):.2f} ms after due at p99, which latency_ms includes"] if mine else []
    if told and not told["realtime_priority"]:
        limits.append("waited for a core like any process: only root's generator comes before the server")
    return tuple(limits)


def _ended_early(told: dict | None, landed: int, asked: int) -> str:
    why = told["ended"] if told else "it was killed"
    return f"the open loop ended after {landed} of {asked} requests ({why})"


def lateness_fault(rows: list[RequestRow]) -> str | None:
    """Why the figures are the generator's rather than the server's; None where they are the server's.

    Sends may be 2 ms late at p99. Where the server leaves the generator too little of a shared machine they may be
    later, as long as that is under a tenth of the latency at p99: the reader is told, and the figure errs upwards.
    Not judged where there are too few requests for a p99.
    """
    mine = measured(rows)
    if len(mine) < samples_needed(0.99):
        return None
    late, latency = _lateness(mine), _p99([float(each["latency_ms"]) for each in mine])
    if late <= MOST_LATE_MS or late <= MOST_LATE_SHARE * latency:
        return None
    return (
        f"requests were sent {late:.1f} ms after they were due at p99, over {MOST_LATE_MS:g} ms and a tenth of the "
        f"latency ({latency:.1f} ms): the generator cannot hold this rate here"
    )


def _lateness(rows: list[RequestRow]) -> float:
    return _p99([1000 * (float(each["sent_s"]) - float(each["scheduled_s"])) for each in rows])


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]
