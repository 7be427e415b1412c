"""Locust as a driver: closed loop, users who pause, `locustfile.py` in a process of its own."""

import csv
import json
import signal
import sys
from pathlib import Path

from bankllm.errors import ServerError
from bankllm.loadtest.load import COLUMNS, DriverResult, Load, RequestRow, errors_of, span_s
from bankllm.util import processes

NUMBERS = {"worker": int, "sent_s": float, "done_s": float, "latency_ms": float, "service_ms": float}
NUMBERS |= {"status": int, "bytes": int, "scheduled_s": float, "first_byte_s": float}


def run_locust(load: Load, folder: Path) -> DriverResult:
    """Drive the mix with `BankingUser`s, all starting at once. Leaves `locust.csv` and `locust.log`.

    Raises `ServerError` if Locust made no request; one that ended early keeps its rows and is marked invalid.
    """
    rows_file, generator = folder / "locust.csv", folder / "generator.json"
    plan = load.plan() | {"rows": rows_file.name, "generator": generator.name}
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    for old in (rows_file, generator):
        old.unlink(missing_ok=True)
    users = str(load.users)
    command = [*LOCUST, "--headless", "--host", load.url, "-u", users, "-r", users]
    command += ["--only-summary", "--exit-code-on-error", "0"]
    environment = {"BANKLLM_LOAD_PLAN": "plan.json", "BANKLLM_LOAD_TOKENS": json.dumps(load.tokens())}
    log = folder / "locust.log"
    child = processes.run(command, log, load.longest_s(), environment, signal.SIGTERM)
    rows = read_rows(rows_file)
    if not rows and not child.interrupted:
        raise ServerError(f"Locust made no request (exit code {child.returncode}). It said:\n{processes.tail(log)}")
    asked = load.warm_up + load.requests
    busy = json.loads(generator.read_text(encoding="utf-8")) if generator.exists() else None
    why = f" ({busy['ended']})" if busy and busy["ended"] else ""
    return DriverResult(
        rows=rows,
        errors=errors_of(rows),
        seconds=span_s(rows),
        generator_cpu_share=busy["cpu_s"] / busy["wall_s"] if busy else None,
        limits=("no first_byte_s",),
        invalid_because=None if len(rows) == asked else f"Locust ended after {len(rows)} of {asked} requests{why}",
        interrupted=child.interrupted,
    )


LOCUST = (sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py")))


def read_rows(path: Path) -> list[RequestRow]:
    """Rows that a generator wrote under `COLUMNS`. A last line cut short by a kill is left out."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["error"] is not None]
    return [{name: NUMBERS.get(name, str)(line[name]) if line[name] else "" for name in COLUMNS} for line in lines]
