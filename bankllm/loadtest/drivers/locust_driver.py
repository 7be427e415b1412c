"""Load driver that runs Locust with `locustfile.py` in a separate process: closed loop, users with pauses."""

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
    """Send the mix with `load.users` users that start together. Writes `locust.csv` and `locust.log` in `folder`.

    Raises `ServerError` if Locust sent no request. If Locust ended early, its rows are kept and the load is invalid.
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
    child = processes.run(command, log, load.max_duration_s(), environment, signal.SIGTERM)
    rows = read_rows(rows_file)
    if not rows and not child.interrupted:
        raise ServerError(
            f"Locust sent no request (exit code {child.returncode}). Check that the server answers. The end of "
            f"Locust's log:\n{processes.tail(log)}"
        )
    planned = load.warm_up + load.requests
    generator_report = json.loads(generator.read_text(encoding="utf-8")) if generator.exists() else None
    why = f" ({generator_report['ended']})" if generator_report and generator_report["ended"] else ""
    return DriverResult(
        rows=rows,
        errors=errors_of(rows),
        seconds=span_s(rows),
        generator_cpu_share=generator_report["cpu_s"] / generator_report["wall_s"] if generator_report else None,
        limits=("no first_byte_s",),
        invalid_because=None if len(rows) == planned else f"Locust ended after {len(rows)} of {planned} requests{why}",
        interrupted=child.interrupted,
    )


LOCUST = (sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py")))


def read_rows(path: Path) -> list[RequestRow]:
    """Read the rows that a load generator wrote with `COLUMNS`; an empty list if the file does not exist.

    An incomplete last line, left by a killed process, is ignored.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["error"] is not None]
    return [{name: NUMBERS.get(name, str)(line[name]) if line[name] else "" for name in COLUMNS} for line in lines]
