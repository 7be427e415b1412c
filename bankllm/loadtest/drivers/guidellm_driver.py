"""Load driver that runs GuideLLM in a separate process: open loop, streams of `/v1/chat/completions`.

GuideLLM needs other versions of packages than bankllm: install it into an environment of its own, and put its program
on the PATH. Its percentiles are not used.
"""

import json
import signal
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from bankllm.errors import ServerError
from bankllm.loadtest.load import LOAD_DRIVERS, Load, LoadDriver, LoadResult, RequestRow, piece_rows, row
from bankllm.util import processes


def run_guidellm(load: Load, folder: Path) -> LoadResult:
    """Send the texts of the load as the first customer. Raises `ServerError` if GuideLLM wrote no report."""
    customer, report, log = load.customers[0], folder / "guidellm.json", folder / "guidellm.log"
    report.unlink(missing_ok=True)
    texts = [json.dumps({"prompt": call.body["message"]}) for call in islice(load.calls(), load.total)]
    (folder / "requests.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    backend = {"kind": "openai_http", "target": load.url, "model": "bankllm", "http2": False}
    backend |= {"timeout": load.timeout_s, "extras": {"body": {"user": customer}}}
    spec = {
        "backend": backend | ({"api_key": load.tokens[customer]} if customer in load.tokens else {}),
        "profile": {"kind": load.arrivals, "rate": load.rate},
        "constraints": [{"kind": "max_requests", "count": load.total}],
        "data": [{"kind": "json_file", "path": "requests.jsonl"}],
        "outputs": [{"kind": "json", "path": report.name}],
    }
    (folder / "scenario.json").write_text(json.dumps({"spec": spec}), encoding="utf-8")
    command = ["guidellm", "run", "--config", "scenario.json", "--disable-console"]
    longest_s = 120 + load.total / (load.rate or 1) + load.timeout_s
    child = processes.run(command, log, longest_s, {"HF_HUB_OFFLINE": "1"}, signal.SIGINT)
    if not report.exists():
        raise ServerError(
            f"GuideLLM wrote no report (exit code {child.returncode}). The end of its log:\n{processes.tail(log)}"
        )
    written = json.loads(report.read_text(encoding="utf-8"))
    rows, pieces = read_report(written)
    limits = (
        f"version {written['metadata']['guidellm_version']}",
        f"{len(rows)} of {load.total} requests are in its report",
        "of the times of tokens only the first and the last one",
        "ttft_ms is that of the first token, also if it carries no content",
    )
    return LoadResult(load, rows, pieces, limits, interrupted=child.interrupted)


def read_report(report: Mapping[str, Any]) -> tuple[list[RequestRow], list[RequestRow]]:
    """Return the rows of the requests, and the rows of the pieces as of `load.piece_rows`."""
    groups = {name: found or [] for name, found in report["benchmarks"][0]["requests"].items()}
    asked = [(name, each) for name in ("successful", "errored", "incomplete") for each in groups[name]]
    began = min(each["info"]["timings"]["targeted_start"] for _, each in asked)
    rows, pieces = [], []
    for number, (outcome, each) in enumerate(asked):
        times = {name: at - began for name, at in each["info"]["timings"].items() if at is not None}
        sent, first = times["request_start"], times.get("first_token_iteration", "")
        count = each["info"]["timings"]["token_iterations"]
        columns = {"driver": "guidellm", "kind": "stream", "phase": "steady", "tokens": count}
        columns |= {"error": "" if outcome == "successful" else outcome}
        rows.append(row(sent, times["request_end"], times["targeted_start"], first, **columns))
        if count:
            gap = (times["last_token_iteration"] - first) / max(1, count - 1)
            pieces += piece_rows(number, sent, [first + place * gap for place in range(count)])
    return rows, pieces


LOAD_DRIVERS.add(
    "guidellm",
    LoadDriver(run_guidellm, "open", ("stream",), "guidellm", "pip install guidellm, in an environment of its own"),
)
