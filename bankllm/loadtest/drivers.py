"""The load generators: `ab` (Apache Bench) and Locust, each a child process driven to its end.

Both are closed loop: a user waits for the reply before the next request. What a tool cannot tell is left empty in
its rows and named in `Driven.limits`; its own percentiles are not used (ab and Locust round them).
"""

import csv
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

from bankllm import processes
from bankllm.errors import NotMeasured, ServerError
from bankllm.loadtest.load import PATHS, Driven, Kind, Load, Row


def run_ab(load: Load, folder: Path) -> Driven:
    """Drive one endpoint with `ab -l -k` and no pause. Leaves `ab.tsv`, `ab.csv`, `ab.txt` and `body.json`.

    Raises `NotMeasured` without ab, `ServerError` if ab gave up (it then writes no rows at all).
    """
    program = shutil.which("ab")
    if program is None:
        raise NotMeasured("ab not found; install it (apt-get install apache2-utils) and run again")
    body = {"message": load.messages[0], "customer_id": load.customers[0]}
    (folder / "body.json").write_text(json.dumps(body), encoding="utf-8")
    command = [program, "-q", "-l", "-k", "-r", "-s", str(max(1, round(load.timeout_s)))]
    command += ["-n", str(load.requests), "-c", str(load.users), "-g", "ab.tsv", "-e", "ab.csv"]
    command += ["-p", "body.json", "-T", "application/json"] if load.kind == "chat" else []
    command += ["-H", f"Authorization: Bearer {load.token}"] if load.token else []
    log = folder / "ab.txt"
    child = processes.run([*command, load.url + PATHS[load.kind]], log, load.longest_s())
    if child.cpu_s is None or child.returncode:
        raise ServerError(f"ab gave up and kept no rows; see that the server answers. It said:\n{processes.tail(log)}")
    report = log.read_text(errors="replace")
    counted = {"failed": _figure(report, "Failed requests"), "non-2xx": _figure(report, "Non-2xx responses")}
    errors = {name: int(count) for name, count in counted.items() if count}
    return Driven(
        rows=_ab_rows(folder / "ab.tsv", load.kind, status="" if errors else "2xx"),
        errors=errors,
        seconds=_figure(report, "Time taken for tests"),
        generator_cpu_share=child.cpu_s / child.wall_s,
        limits=(
            "one body, sent every time",
            "sent_s in whole seconds, latency_ms in whole milliseconds",
            "no status, error or bytes of a single request",
        ),
        invalid_because=f"ab does not say which rows went wrong, and counted {errors}" if errors else None,
    )


def run_locust(load: Load, folder: Path) -> Driven:
    """Drive the mix of `locustfile.py`, all users starting at once. Leaves `locust.csv` and `locust.log`.

    Raises `ServerError` if Locust made no request; one that ended early keeps its rows and is marked invalid.
    """
    plan = {
        "requests": load.requests,
        "messages": list(load.messages),
        "customers": list(load.customers),
        "wait_s": load.wait_s,
        "timeout_s": load.timeout_s,
        "seed": load.seed,
        "rows": "locust.csv",
        "generator": "generator.json",
    }
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (folder / "generator.json").unlink(missing_ok=True)
    (folder / "locust.csv").unlink(missing_ok=True)
    users = str(load.users)
    command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py")), "--headless"]
    command += ["--host", load.url, "-u", users, "-r", users, "--only-summary", "--exit-code-on-error", "0"]
    environment = {"BANKLLM_LOAD_PLAN": "plan.json"} | ({"BANKLLM_LOAD_TOKEN": load.token} if load.token else {})
    log = folder / "locust.log"
    child = processes.run(command, log, load.longest_s(), environment)
    rows = _locust_rows(folder / "locust.csv")
    if not rows:
        raise ServerError(f"Locust made no request (exit code {child.returncode}). It said:\n{processes.tail(log)}")
    because = None if len(rows) == load.requests else f"Locust ended after {len(rows)} of {load.requests} requests"
    generator = folder / "generator.json"
    busy = json.loads(generator.read_text(encoding="utf-8")) if generator.exists() else None
    return Driven(
        rows=rows,
        errors=dict(Counter(str(row["error"]) for row in rows if row["error"])),
        seconds=max(_done_s(row) for row in rows) - min(float(row["sent_s"]) for row in rows),
        generator_cpu_share=busy["cpu_s"] / busy["wall_s"] if busy else None,
        limits=("sent_s on the wall clock",),
        invalid_because=because,
    )


def _ab_rows(path: Path, kind: Kind, status: str) -> list[Row]:
    """Rows of `ab -g`, which orders them by latency."""
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    began = min(int(line["seconds"]) for line in lines)
    return [
        {
            "driver": "ab",
            "worker": 0,
            "kind": kind,
            "sent_s": int(line["seconds"]) - began,
            "latency_ms": int(line["ttime"]),
            "status": status,
            "bytes": "",
            "error": "" if status else "unknown",
        }
        for line in lines
    ]


def _locust_rows(path: Path) -> list[Row]:
    """Rows of `locustfile.Recorder`, in the order of the replies. A last line cut short by a kill is left out."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["error"] is not None]
    return [
        {
            "driver": "locust",
            "worker": 0,
            "kind": line["kind"],
            "sent_s": float(line["sent_s"]),
            "latency_ms": float(line["latency_ms"]),
            "status": int(line["status"]),
            "bytes": int(line["bytes"]),
            "error": line["error"],
        }
        for line in lines
    ]


def _done_s(row: Row) -> float:
    return float(row["sent_s"]) + float(row["latency_ms"]) / 1000


def _figure(report: str, name: str) -> float:
    """A figure of ab's report; ab leaves out a line that would say 0."""
    found = re.search(rf"^{name}:\s+([\d.]+)", report, re.MULTILINE)
    return float(found[1]) if found else 0.0
