"""Load driver that runs Apache Bench (ab): closed loop, one endpoint, the same body in every request, no pauses.

ab gets the bearer token on its command line, where other users of this machine can read it. The percentiles that ab
prints are not used.
"""

import csv
import json
import re
import signal
from pathlib import Path

from bankllm.errors import ServerError
from bankllm.loadtest.load import LOAD_DRIVERS, PATHS, Load, LoadDriver, LoadResult, RequestKind, RequestRow, row
from bankllm.util import processes


def run_ab(load: Load, folder: Path) -> LoadResult:
    """Send the first request of the load over and over with `ab -l -k`. Its files are left in `folder`.

    Raises `ServerError` if ab stopped early; ab then writes no rows.
    """
    kind, body, _ = next(load.calls())
    (folder / "body.json").write_text(json.dumps(body), encoding="utf-8")
    (folder / "ab.tsv").unlink(missing_ok=True)
    command = ["ab", "-q", "-l", "-k", "-r", "-s", str(max(1, round(load.timeout_s))), "-g", "ab.tsv", "-e", "ab.csv"]
    command += ["-p", "body.json", "-T", "application/json"] if body else []
    token = load.tokens.get(body.get("customer_id", ""))
    command += ["-H", f"Authorization: Bearer {token}"] if token else []
    log = folder / "ab.txt"
    for requests in filter(None, (load.warm_up, load.requests)):
        how_many = ["-n", str(requests), "-c", str(min(requests, load.users)), load.url + PATHS[kind]]
        # On SIGINT, ab writes the rows that it has so far.
        child = processes.run([*command, *how_many], log, load.max_duration_s(), stop_signal=signal.SIGINT)
    report = log.read_text(errors="replace")
    if not (folder / "ab.tsv").exists() or (child.returncode and not child.interrupted):
        raise ServerError(
            f"ab stopped early and wrote no rows. Check that the server answers. The end of ab's output:\n"
            f"{processes.tail(log)}"
        )
    counted = {
        "failed": _reported_number(report, "Failed requests"),
        "non-2xx": _reported_number(report, "Non-2xx responses"),
    }
    errors = {name: int(count) for name, count in counted.items() if count}
    rows = ab_rows(folder / "ab.tsv", kind, "" if errors else "2xx")
    because = [f"ab does not say which rows went wrong, and counted {errors}"] if errors else []
    because += [f"ab ended after {len(rows)} requests"] if child.interrupted else []
    return LoadResult(
        load,
        rows,
        errors=errors,
        # ab measures the duration of all requests exactly; the rows have a resolution of one second.
        seconds=_reported_number(report, "Time taken for tests"),
        generator_cpu_share=None if child.cpu_s is None else child.cpu_s / child.wall_s,
        limits=(
            "the same body in every request",
            "sent_s and done_s in whole seconds, latency_ms in whole milliseconds",
            "no status, error or bytes per request",
            f"HTTP/1.0, {_reported_number(report, 'Keep-Alive requests'):.0f} requests on keep-alive connections",
            *(("no rows of the warm-up",) if load.warm_up else ()),
        ),
        invalid_because="; ".join(because) or None,
        interrupted=child.interrupted,
    )


LOAD_DRIVERS.add("ab", LoadDriver(run_ab, "closed", ("chat", "health"), "ab", "apt-get install apache2-utils"))


def ab_rows(path: Path, kind: RequestKind, status: str) -> list[RequestRow]:
    """Return the rows of the file that `ab -g` wrote, sorted by the second in which they were sent.

    `status` is the status of every row; if it is empty, the error of every row is `unknown`.
    """
    with path.open(newline="") as file:
        lines = sorted(csv.DictReader(file, delimiter="\t"), key=lambda line: int(line["seconds"]))
    known = {"driver": "ab", "kind": kind, "status": status, "error": "" if status else "unknown"}
    rows = []
    for line in lines:
        sent, latency_ms = int(line["seconds"]) - int(lines[0]["seconds"]), int(line["ttime"])
        rows.append(row(sent, sent + latency_ms / 1000, **known, latency_ms=latency_ms, service_ms=latency_ms))
    return rows


def _reported_number(report: str, name: str) -> float:
    """Return a number from ab's report. ab omits some lines whose number is 0."""
    match = re.search(rf"^{name}:\s+([\d.]+)", report, re.MULTILINE)
    return float(match[1]) if match else 0.0
