"""Read metrics from an endpoint directly, or through a Prometheus process that scrapes it every second.

with PrometheusServer(8000, folder) as prometheus:
    ...  # put the server on port 8000 under load
    prometheus.wait_for_scrape()
    prometheus.query("histogram_quantile(0.95, sum by (le) (http_request_duration_seconds_bucket))")
"""

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bankllm.errors import NotMeasured, ServerError, UsageError
from bankllm.util import processes

JOB = "bankllm"
INSTALL = (
    "prometheus binary not found; install it (apt-get install prometheus, or prometheus.io/download) and run again"
)


@dataclass(frozen=True)
class Sample:
    """One value of one series. `name` is empty for a PromQL result without a metric name."""

    name: str
    labels: dict[str, str]
    value: float


def scrape(url: str) -> list[Sample]:
    """Fetch and parse metrics in Prometheus' text format. Raises `ServerError` if `url` returns anything else."""
    try:
        reply = httpx.get(url, timeout=10, trust_env=False)
        reply.raise_for_status()
        families = list(text_string_to_metric_families(reply.text))
    except (httpx.HTTPError, ValueError) as error:
        raise ServerError(
            f"{url} did not return Prometheus metrics ({error or type(error).__name__}). "
            "Expected the /metrics of the server; check the address and that the server runs."
        ) from error
    return [Sample(s.name, s.labels, s.value) for family in families for s in family.samples]


class PrometheusServer:
    """A Prometheus process that scrapes `127.0.0.1:target_port/metrics` every second, as a context manager.

    `folder` receives its configuration, data and log. `rules` are files of recording and alerting rules, which are
    evaluated every second. `util.processes` describes how the process is ended if this process is killed.

    Raises `NotMeasured` without the `prometheus` binary, and `ServerError` if Prometheus does not start or cannot
    scrape its target within `timeout_s` seconds.
    """

    def __init__(self, target_port: int, folder: Path, timeout_s: float = 20, rules: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.target_port = target_port
        self.timeout_s = timeout_s
        self.rules = rules
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start without a `with` block, for example in a notebook, and wait for the first scrape. Then call `stop`."""
        program = shutil.which("prometheus")
        if program is None:
            raise NotMeasured(INSTALL)
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "prometheus.yml"
        config.write_text(configuration(self.target_port, self.rules), encoding="utf-8")
        port = processes.free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        with (self.folder / "prometheus.log").open("wb") as log:
            self._process = processes.start(command, log)
        try:
            self.wait_for_scrape()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the process. Its data stay in `folder`."""
        processes.stop(self._process)

    def query(self, promql: str, at: float | None = None) -> list[Sample]:
        """Run an instant query at the Unix time `at`, by default now. A scalar is one sample without labels.

        Raises `UsageError` if Prometheus rejects the query or returns a range, and `ServerError` if Prometheus does not
        answer.
        """
        parameters = {"query": promql} | ({} if at is None else {"time": str(at)})
        try:
            reply = httpx.get(f"{self.url}/api/v1/query", params=parameters, timeout=10, trust_env=False)
            body = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ServerError(
                f"Prometheus did not answer ({error!r}). The end of its log: {self._log_tail()}"
            ) from error
        if body["status"] != "success":
            raise UsageError(f"Prometheus rejected the query {promql!r}: {body['error']}.")
        return _samples(promql, body["data"])

    def wait_for_scrape(self) -> None:
        """Wait for a scrape that started after this call, so that queries include everything before the call.

        Raises `ServerError` on timeout, with the end of Prometheus' log.
        """
        called = time.time()
        deadline = time.monotonic() + self.timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._last_scrape() > called:
                return
            time.sleep(0.1)
        raise ServerError(
            f"Prometheus could not scrape 127.0.0.1:{self.target_port}/metrics within {self.timeout_s:g} s. Expected "
            f"a server at that address; check that it runs. The end of Prometheus' log: {self._log_tail()}"
        )

    def _last_scrape(self) -> float:
        """Return the start of the last successful scrape in Unix seconds; -inf before the first."""
        try:
            # timestamp() of a selector is the time of the scrape; of an expression it is the time of the query.
            samples = self.query(f'timestamp(up{{job="{JOB}"}}) and up{{job="{JOB}"}} == 1')
        except ServerError:  # not listening yet
            return -math.inf
        return samples[0].value if samples else -math.inf

    def _log_tail(self) -> str:
        lines = (self.folder / "prometheus.log").read_text(errors="replace").splitlines()
        return " | ".join(lines[-5:]) or "(empty)"


def configuration(target_port: int, rules: Sequence[Path] = ()) -> str:
    """Return a Prometheus configuration with the job `bankllm`, one target on this machine, and these rule files."""
    return (
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\n"
        f"rule_files: {json.dumps([str(path.resolve()) for path in rules])}\n"
        f"scrape_configs:\n  - job_name: {JOB}\n    static_configs:\n"
        f"      - targets: ['127.0.0.1:{target_port}']\n"
    )


def _samples(promql: str, data: dict[str, Any]) -> list[Sample]:
    if data["resultType"] == "scalar":
        return [Sample("", {}, float(data["result"][1]))]
    if data["resultType"] != "vector":
        raise UsageError(
            f"{promql!r} returns a {data['resultType']}, expected one value per series; use a function such as rate(…)."
        )
    samples = []
    for series in data["result"]:
        labels = dict(series["metric"])
        samples.append(Sample(labels.pop("__name__", ""), labels, float(series["value"][1])))
    return samples


def bucket_rows(
    before: Sequence[Sample], after: Sequence[Sample], metric: str = "http_request_duration_seconds", **labels: str
) -> list[dict[str, str | float]]:
    """Return the increase of a histogram of seconds between two scrapes, summed over all series with these labels.

    The rows have `le_ms` (upper bound in ms) and `requests` (cumulative over the bounds, as in Prometheus).
    """
    gained: dict[float, float] = {}
    for samples, sign in ((after, 1), (before, -1)):
        for sample in samples:
            if sample.name == f"{metric}_bucket" and labels.items() <= sample.labels.items():
                bound = float(sample.labels["le"])
                gained[bound] = gained.get(bound, 0.0) + sign * sample.value
    return [
        {"le_ms": "+Inf" if math.isinf(bound) else round(1000 * bound, 6), "requests": count}
        for bound, count in sorted(gained.items())
    ]


def gained(before: Sequence[Sample], after: Sequence[Sample], name: str, **labels: str) -> float:
    """Return the increase between two scrapes, summed over the series with this name and these labels."""
    return sum(
        sign * sample.value
        for samples, sign in ((after, 1), (before, -1))
        for sample in samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
