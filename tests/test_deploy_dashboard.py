"""Grafana's dashboard and the histogram, before a real Prometheus that scraped a real server under a real load.

The server is two workers of `bankllm serve` with the environment that compose.yaml gives the api, its memory
replicated to a server that speaks Pinecone's protocol; Prometheus has the rules of `deploy/`.
"""

import json
import math
import re
import shutil
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bankllm.evidence.statistics.registry import percentile, samples_needed
from bankllm.lab.prometheus import PrometheusServer, Sample
from bankllm.loadtest.load import RequestRow
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from bankllm.telemetry.metrics import HTTP_BUCKETS
from tests.deployed import DEPLOY, api_environment, check_health
from tests.live_server import bank
from tests.pinecone_server import API_KEY, PineconeServer
from tests.server_client import until
from tests.test_serving_auth import SECRET, token

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus binary"),
]
RATE, REQUESTS = 20, 140
CHAT = '{route="/api/v1/chat"}'
CUSTOMERS = [f"CUST{number:03d}" for number in range(1, 11)]
LONG = "my card still has not come and I have asked three times " * 12
"""Longer than the classifier reads, so that its pass does not bring the embedding along."""
MESSAGES = ["What is my account balance?", "show me my last payments please", "my card still has not come", LONG]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/bankllm.json").read_text())
QUIET = {
    "Alerts firing",
    "Share of requests that fail",
    "Messages that wait for the encoder",
    "Chats without memory, or not kept",
    "Changes that Pinecone was not told of yet",
    "Age of the oldest of them",
}
"""Panels that may show 0 while all is well; the others show what the load did."""


@dataclass(frozen=True)
class Watched:
    """A load that is over, and a Prometheus that has seen it end."""

    prometheus: PrometheusServer
    server: ServerProcess
    chats: list[RequestRow]
    at: float
    """When it was over, as a Unix time: that is what Prometheus is asked about, however much later."""

    def ask(self, promql: str) -> list[Sample]:
        return self.prometheus.query(promql, self.at)

    def one(self, promql: str) -> float:
        [sample] = self.ask(promql)
        return sample.value


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    rules = [DEPLOY / "rules" / name for name in ("recording.yml", "alerts.yml")]
    tokens = {name: token(sub=name, exp=time.time() + 600) for name in CUSTOMERS}
    with PineconeServer() as pinecone:
        given = {"BANKLLM_JWT_SECRET": SECRET, "PINECONE_API_KEY": API_KEY, "PINECONE_CONTROLLER_HOST": pinecone.url}
        with (
            bank(folder, workers=2, **api_environment(given)) as server,
            PrometheusServer(server.port, folder / "prometheus", rules=rules) as prometheus,
        ):
            result = run_load(
                server.url,
                "open-loop",
                messages=MESSAGES,
                customers=CUSTOMERS,
                token=tokens,
                requests=REQUESTS,
                rate=RATE,
                output=folder / "load",
            )
            assert not result.errors
            prometheus.wait_for_scrape()
            until(lambda: bool(prometheus.query(f"job_route:http_requests:rate5m{CHAT} > 0")))
            yield Watched(prometheus, server, result.measured, time.time())


@pytest.mark.parametrize(
    "promql",
    [
        f"histogram_quantile(0.95, sum by (le) (http_request_duration_seconds_bucket{CHAT}))",
        f"histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket{CHAT}[1m])))",
        f"job_route:http_request_duration_seconds:p95_5m{CHAT}",
    ],
)
def test_p95_through_promql_lies_within_a_bucket_of_the_raw_rows(watched: Watched, promql: str) -> None:
    assert watched.one(f"sum(http_requests_total{CHAT})") == len(watched.chats) >= samples_needed(0.95)
    exact_ms = percentile([{"ms": str(row["service_ms"])} for row in watched.chats], "ms", 0.95).value
    assert exact_ms is not None
    ours, theirs = (bisect_left(HTTP_BUCKETS, seconds) for seconds in (exact_ms / 1000, watched.one(promql)))
    assert abs(ours - theirs) <= 1


def test_the_servers_to_choose_from_are_those_that_prometheus_reaches(watched: Watched) -> None:
    [variable] = DASHBOARD["templating"]["list"]
    series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
    assert variable["name"] == label
    assert [sample.labels[label] for sample in watched.ask(series)] == [f"127.0.0.1:{watched.server.port}"]


def test_the_containers_health_check_passes_on_it(watched: Watched) -> None:
    assert check_health(watched.server.port) == 0


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_every_panel_shows_data(watched: Watched, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        everywhere, here, nowhere = (
            watched.ask(target["expr"].replace("$__rate_interval", "1m").replace("$instance", instance))
            for instance in (".*", f"127.0.0.1:{watched.server.port}", "another")
        )
        values = [sample.value for sample in everywhere if math.isfinite(sample.value)]
        assert values, target["expr"]
        assert any(values) or panel["title"] in QUIET, target["expr"]
        assert sorted(here, key=repr) == sorted(everywhere, key=repr)
        if "$instance" in target["expr"]:
            assert not any(sample.value for sample in nowhere)
        shown = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
        assert all(shown <= set(sample.labels) for sample in everywhere), target["legendFormat"]
