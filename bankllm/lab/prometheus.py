"""Read metrics from an endpoint directly, or through a Prometheus process that scrapes it every second."""

import contextlib
import json
import math
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, get_args

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from bankllm.errors import NotMeasured, ServerError, UsageError, explained
from bankllm.loadtest.runner import call_server
from bankllm.telemetry.metrics import Stage
from bankllm.util import processes

STAGES = "bankllm_stage_duration_seconds"
GENERATION = (
    "bankllm_generation_queue_seconds",
    "gen_ai_server_time_to_first_token_seconds",
    "gen_ai_server_request_duration_seconds",
)
"""Histograms of the language model's texts; the second and the third one include the time of those before."""
LAST_SCRAPE = 'timestamp(up{job="bankllm"}) and up{job="bankllm"} == 1'
"""The start of the last successful scrape."""


def scrape(url: str) -> list[Sample]:
    """Fetch and parse metrics in Prometheus' text format. Raises `ServerError` if `url` returns anything else."""
    text = call_server("GET", url).text
    with explained(ServerError, f"{url} did not return Prometheus metrics", "Correct the address.", ValueError):
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


class PrometheusServer:
    """A Prometheus process that scrapes `127.0.0.1:target_port/metrics` every second, as a context manager.

    `folder` receives its configuration, data and log. `rules` are files of recording and alerting rules. Raises
    `NotMeasured` without the `prometheus` binary, and `ServerError` if it cannot scrape within `timeout_s` seconds.
    """

    def __init__(self, target_port: int, folder: Path, timeout_s: float = 20, rules: Sequence[Path] = ()) -> None:
        self.target_port, self.folder, self.timeout_s, self.rules = target_port, folder, timeout_s, rules
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        """Start, and wait for the first scrape."""
        program = shutil.which("prometheus")
        if program is None:
            raise NotMeasured("prometheus binary not found; install it (apt-get install prometheus) and run again")
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "prometheus.yml"
        config.write_text(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\n"
            f"rule_files: {json.dumps([str(path.resolve()) for path in self.rules])}\n"
            "scrape_configs:\n  - job_name: bankllm\n    static_configs:\n"
            f"      - targets: ['127.0.0.1:{self.target_port}']\n",
            encoding="utf-8",
        )
        address = f"127.0.0.1:{processes.free_port()}"
        self.url = f"http://{address}"
        command = [program, f"--config.file={config}", f"--storage.tsdb.path={self.folder / 'data'}"]
        command += [f"--web.listen-address={address}", "--log.level=warn"]
        with (self.folder / "prometheus.log").open("wb") as log:
            self.process = processes.start(command, log)
        try:
            self.wait_for_scrape()
        except BaseException:
            self.stop()
            raise
        return self

    start = __enter__
    """To be used without a `with` block, for example in a notebook. Then call `stop`."""

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.process is not None:
            processes.stop(self.process)

    def query(self, promql: str, at: float | None = None) -> list[Sample]:
        """Run an instant query at the Unix time `at`, by default now.

        Raises `UsageError` unless the query gives one value per series, and `ServerError` without an answer.
        """
        parameters = {"query": promql} | ({} if at is None else {"time": str(at)})
        try:
            reply = httpx.get(f"{self.url}/api/v1/query", params=parameters, timeout=10, trust_env=False)
            body = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            log = processes.tail(self.folder / "prometheus.log", 5)
            raise ServerError(f"Prometheus did not answer ({error!r}). The end of its log:\n{log}") from error
        if body["status"] != "success":
            raise UsageError(f"Prometheus rejected the query {promql!r}: {body['error']}.")
        kind, result = body["data"]["resultType"], body["data"]["result"]
        if kind != "vector":
            raise UsageError(f"{promql!r} returns a {kind}, expected one value per series; use rate(…), for example.")
        return [Sample(each["metric"].pop("__name__", ""), each["metric"], float(each["value"][1])) for each in result]

    def wait_for_scrape(self) -> None:
        """Wait for a scrape that started after this call. Raises `ServerError` on timeout."""
        called, deadline = time.time(), time.monotonic() + self.timeout_s
        while time.monotonic() < deadline and self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ServerError):  # not listening yet
                if any(sample.value > called for sample in self.query(LAST_SCRAPE)):
                    return
            time.sleep(0.1)
        log = processes.tail(self.folder / "prometheus.log", 5)
        raise ServerError(
            f"Prometheus could not scrape 127.0.0.1:{self.target_port}/metrics within {self.timeout_s:g} s. Expected "
            f"a server at that address; check that it runs. The end of Prometheus' log:\n{log}"
        )


def bucket_rows(
    before: Sequence[Sample], after: Sequence[Sample], metric: str = "http_request_duration_seconds", **labels: str
) -> list[dict[str, Any]]:
    """Return the increase of a histogram of seconds between two scrapes, summed over all series with these labels.

    The rows have `le_ms` (upper bound in ms) and `requests` (cumulative over the bounds, as in Prometheus).
    """
    counts = increases(before, after, f"{metric}_bucket", "le", **labels)
    return [
        {"le_ms": "+Inf" if math.isinf(bound) else round(1000 * bound, 6), "requests": count}
        for bound, count in sorted((float(bound), count) for bound, count in counts.items())
    ]


def gained(before: Sequence[Sample], after: Sequence[Sample], name: str, **labels: str) -> float:
    """Return the increase between two scrapes, summed over the series with this name and these labels."""
    return sum(increases(before, after, name, "", **labels).values())


def increases(before: Sequence[Sample], after: Sequence[Sample], name: str, by: str, **labels: str) -> dict[str, float]:
    """Return the increase between two scrapes per value of the label `by`."""
    summed: dict[str, float] = defaultdict(float)
    for samples, sign in ((after, 1), (before, -1)):
        for sample in samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                summed[sample.labels.get(by, "")] += sign * sample.value
    return summed


def stage_buckets(before: Sequence[Sample], after: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return the increase of each stage's histogram: rows of `stage`, `le_ms` and a cumulative `requests`."""
    return [
        {"stage": stage, **row} for stage in get_args(Stage) for row in bucket_rows(before, after, STAGES, stage=stage)
    ]


def stage_times(before: Sequence[Sample], after: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return one row per stage, in the order of a chat: `stage`, `chats`, and the exact `mean_ms`."""
    rows = []
    for stage in get_args(Stage):
        if chats := gained(before, after, f"{STAGES}_count", stage=stage):
            mean_ms = 1000 * gained(before, after, f"{STAGES}_sum", stage=stage) / chats
            rows.append({"stage": stage, "chats": round(chats), "mean_ms": mean_ms})
    return rows


def generation_times(before: Sequence[Sample], after: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return one row per task of the language model: `task`, `texts`, and the mean times of a text in ms.

    `wait_ms` is until its turn, `prompt_ms` from then to the first token, `tokens_ms` from there to the last one.
    """
    rows = []
    for task in ("understand", "word"):
        totals = [1000 * gained(before, after, f"{name}_sum", gen_ai_operation_name=task) for name in GENERATION]
        if texts := gained(before, after, f"{GENERATION[-1]}_count", gen_ai_operation_name=task):
            wait_ms, first_ms, whole_ms = (total / texts for total in totals)
            times = {"wait_ms": wait_ms, "prompt_ms": first_ms - wait_ms, "tokens_ms": whole_ms - first_ms}
            rows.append({"task": task, "texts": round(texts), **times})
    return rows
