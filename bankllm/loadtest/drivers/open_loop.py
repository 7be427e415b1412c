"""Open-loop load driver: runs `open_loop_process.py` as a separate process, apart from a notebook's kernel.

Each request is sent when it is due, even if earlier replies are pending, and its latency counts from the due time. A
stall of the server therefore shows in every request that was due during the stall. A closed loop shows it only in the
requests that were pending (coordinated omission).
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

MAX_LATENESS_MS = 2.0
"""Limit of the p99 of the time from due to sent, in ms; see `lateness_fault`."""
MAX_LATENESS_SHARE = 0.1
"""The same limit as a share of the p99 of the latency; the larger limit applies."""


def run_open_loop(load: Load, folder: Path) -> DriverResult:
    """Send requests at `load.rate` per second. Writes `open_loop.csv` and `open_loop.log` in `folder`.

    Raises `ServerError` if the generator wrote no rows. If it ended early, its rows are kept and the load is invalid.
    """
    rows_file, generator = folder / "open_loop.csv", folder / "generator.json"
    plan = load.plan() | {"rows": rows_file.name, "generator": generator.name}
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    for old in (rows_file, generator):
        old.unlink(missing_ok=True)
    log = folder / "open_loop.log"
    command = [sys.executable, "-m", "bankllm.loadtest.drivers.open_loop_process", "plan.json"]
    child = processes.run(
        command, log, load.max_duration_s(), {"BANKLLM_LOAD_TOKENS": json.dumps(load.tokens())}, signal.SIGTERM
    )
    rows = read_rows(rows_file)
    if not rows and not child.interrupted:
        raise ServerError(
            f"The open-loop generator wrote no rows (exit code {child.returncode}). The end of its log:\n"
            f"{processes.tail(log)}"
        )
    measured_rows = measured(rows)
    generator_report = json.loads(generator.read_text(encoding="utf-8")) if generator.exists() else None
    planned = load.warm_up + load.requests
    because = (
        []
        if generator_report and not generator_report["ended"]
        else [_ended_early(generator_report, len(rows), planned)]
    )
    because += [late] if (late := lateness_fault(rows)) else []
    without_connection = sum(each["error"] == "NoFreeConnection" for each in rows)
    because += (
        [f"{without_connection} requests failed at the limit of open connections: the loop was no longer open"]
        if without_connection
        else []
    )
    return DriverResult(
        rows=rows,
        errors=errors_of(rows),
        seconds=span_s(rows),
        generator_cpu_share=generator_report["cpu_s"] / generator_report["wall_s"] if generator_report else None,
        limits=_limits(generator_report, measured_rows),
        invalid_because="; ".join(because) or None,
        interrupted=child.interrupted,
    )


def _limits(generator_report: dict | None, measured_rows: list[RequestRow]) -> tuple[str, ...]:
    limits = []
    if measured_rows:
        limits.append(f"p99 of the time from due to sent is {_lateness(measured_rows):.2f} ms; latency_ms includes it")
    if generator_report and not generator_report["realtime_priority"]:
        limits.append("ran without real-time priority, which needs root, so it competed with the server for CPU cores")
    return tuple(limits)


def _ended_early(generator_report: dict | None, completed: int, planned: int) -> str:
    why = generator_report["ended"] if generator_report else "it was killed"
    return f"the open loop ended after {completed} of {planned} requests ({why})"


def lateness_fault(rows: list[RequestRow]) -> str | None:
    """Return why the latencies describe the generator rather than the server; None if they describe the server.

    The p99 of the time from due to sent (the lateness) may be 2 ms. On a machine that the server uses fully it may be
    larger, up to a tenth of the p99 of the latency: the measured latency is then too high by at most that, and
    `DriverResult.limits` reports the lateness. None if there are too few requests for a p99.
    """
    measured_rows = measured(rows)
    if len(measured_rows) < samples_needed(0.99):
        return None
    late, latency = _lateness(measured_rows), _p99([float(each["latency_ms"]) for each in measured_rows])
    if late <= MAX_LATENESS_MS or late <= MAX_LATENESS_SHARE * latency:
        return None
    return (
        f"requests were sent {late:.1f} ms after they were due at p99, over {MAX_LATENESS_MS:g} ms and a tenth of the "
        f"latency ({latency:.1f} ms): the generator cannot sustain this rate on this machine"
    )


def _lateness(rows: list[RequestRow]) -> float:
    return _p99([1000 * (float(each["sent_s"]) - float(each["scheduled_s"])) for each in rows])


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]
