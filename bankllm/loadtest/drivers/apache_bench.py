"""Apache Bench as a driver: closed loop, one endpoint, one body sent every time, no pause.

What ab cannot tell is left empty in its rows and named in `DriverResult.limits`; its own percentiles are not used.
"""

import csv
import json
import re
import shutil
import signal
from pathlib import Path

from bankllm.errors import NotMeasured, ServerError
from bankllm.loadtest.load import PATHS, DriverResult, Load, RequestKind, RequestRow, measured, row
from bankllm.util import processes


def run_ab(load: Load, folder: Path) -> DriverResult:
    """Drive one endpoint with `ab -l -k`. Leaves `ab.tsv`, `ab.csv`, `ab.txt` and `body.json`.

    Raises `NotMeasured` without ab, `ServerError` if ab gave up (it then writes no rows at all).
    """
    program = shutil.which("ab")
    if program is None:
        raise NotMeasured("ab not found; install it (apt-get install apache2-utils) and run again")
    kind: RequestKind = "health" if load.mix == "health" else "chat"
    customer = load.customers[0]
    body = {"message": load.messages[0], "customer_id": customer}
    (folder / "body.json").write_text(json.dumps(body), encoding="utf-8")
    (folder / "ab.tsv").unlink(missing_ok=True)
    command = [program, "-q", "-l", "-k", "-r", "-s", str(max(1, round(load.timeout_s)))]
    command += ["-n", str(load.warm_up + load.requests), "-c", str(load.users), "-g", "ab.tsv", "-e", "ab.csv"]
    command += ["-p", "body.json", "-T", "application/json"] if kind == "chat" else []
    token = load.tokens().get(customer)
    command += ["-H", f"Authorization: Bearer {token}"] if token else []
    log = folder / "ab.txt"
    # On SIGINT ab writes what it has.
    child = processes.run([*command, load.url + PATHS[kind]], log, load.longest_s(), ask=signal.SIGINT)
    report = log.read_text(errors="replace")
    if not (folder / "ab.tsv").exists() or (child.returncode and not child.interrupted):
        raise ServerError(f"ab gave up and kept no rows; see that the server answers. It said:\n{processes.tail(log)}")
    counted = {"failed": _figure(report, "Failed requests"), "non-2xx": _figure(report, "Non-2xx responses")}
    errors = {name: int(count) for name, count in counted.items() if count}
    rows = ab_rows(folder / "ab.tsv", kind, "" if errors else "2xx", load.warm_up)
    because = [f"ab does not say which rows went wrong, and counted {errors}"] if errors else []
    because += [f"ab ended after {len(rows)} requests"] if child.interrupted else []
    seconds = _figure(report, "Time taken for tests")
    if load.warm_up:
        seconds = max(float(each["done_s"]) for each in rows) - min(float(each["sent_s"]) for each in measured(rows))
    return DriverResult(
        rows=rows,
        errors=errors,
        seconds=seconds,
        generator_cpu_share=None if child.cpu_s is None else child.cpu_s / child.wall_s,
        limits=(
            "one body, sent every time",
            "sent_s and done_s to the second, latency_ms in whole milliseconds",
            "no status, error or bytes of a single request",
            f"HTTP/1.0: {_figure(report, 'Keep-Alive requests'):.0f} requests on a connection kept alive",
            *(("a warm-up ends with the second in which its last request was sent",) if load.warm_up else ()),
        ),
        invalid_because="; ".join(because) or None,
        interrupted=child.interrupted,
    )


def ab_rows(path: Path, kind: RequestKind, status: str, warm_up: int) -> list[RequestRow]:
    """Rows of `ab -g`, in the order of sending as far as ab tells it (to the second).

    Whatever was sent in the second of the last warm-up request counts as warm-up: ab cannot tell them apart.
    """
    with path.open(newline="") as file:
        lines = sorted(csv.DictReader(file, delimiter="\t"), key=lambda line: int(line["seconds"]))
    began = int(lines[0]["seconds"]) if lines else 0
    warm_until = int(lines[warm_up - 1]["seconds"]) - began if 0 < warm_up <= len(lines) else -1
    rows = []
    for line in lines:
        sent, waited = int(line["seconds"]) - began, int(line["ttime"])
        phase = "" if not warm_up else "warm_up" if sent <= warm_until else "steady"
        done = sent + waited / 1000
        error = "" if status else "unknown"
        rows.append(row("ab", 0, kind, phase, "", sent, "", done, waited, waited, status, "", error))
    return rows


def _figure(report: str, name: str) -> float:
    """A figure of ab's report; ab leaves out a line that would say 0."""
    found = re.search(rf"^{name}:\s+([\d.]+)", report, re.MULTILINE)
    return float(found[1]) if found else 0.0
