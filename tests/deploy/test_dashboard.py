"""Queries of the Grafana dashboard and of the latency histogram, with a real Prometheus and a real server under load.

The server has two workers, the api's environment of compose.yaml, and a store that is replicated to a local server with
Pinecone's protocol. Prometheus uses the rules of `deploy/`.
"""

import json
import math
import re
import shutil
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.samples import Sample

from bankllm.evidence.statistics.samples import percentile, samples_needed
from bankllm.lab.prometheus import PrometheusServer
from bankllm.loadtest.load import RequestRow
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from bankllm.model import smollm2
from bankllm.telemetry.metrics import HTTP_BUCKETS
from tests.support.deployed import DEPLOY, api_environment
from tests.support.live_server import TOKENS, bank
from tests.support.pinecone_server import API_KEY, PineconeServer
from tests.support.server_client import until
from tests.support.tokens import token
from tests.support.untrained_adapter import untrained_adapter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus binary"),
]
RATE, REQUESTS = 20, 140
CHAT = '{route="/api/v1/chat"}'
CUSTOMERS = [f"CUST{number:03d}" for number in range(1, 11)]
MESSAGES = [
    "What is my account balance?",
    "show me my last payments please",
    "my card still has not come",
    "could you tell me how much went to the supermarkets in October and what the rent was, please?",
]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/bankllm.json").read_text())
QUIET = {
    "Embedding lookups",  # one pass gives intent and embedding
    "Alerts firing",
    "Share of failed requests",
    "Messages waiting for the encoder",
    "Chats without memory or not stored",
    "Changes not yet sent to Pinecone",
    "Age of the oldest unsent change",
}
"""Panels that may show 0 in normal operation. The others must show values that the load causes."""


@dataclass(frozen=True)
class FinishedLoad:
    """A Prometheus that has scraped the server after a load, and the load's rows."""

    prometheus: PrometheusServer
    server: ServerProcess
    chats: list[RequestRow]
    at: float
    """Unix time at the end of the load. All queries are evaluated at this time."""

    def query(self, promql: str) -> list[Sample]:
        return self.prometheus.query(promql, self.at)


def language_model(folder: Path) -> dict[str, str]:
    """Settings of a server whose language model is untrained: what it writes is refused, but measured."""
    if smollm2.gguf_file() is None or find_spec("openvino_genai") is None:
        return {}
    settings = {"BANKLLM_LANGUAGE_ADAPTER": str(untrained_adapter(folder))}
    return settings | {
        "BANKLLM_REPLY_TIMEOUT_S": "10",  # on a busy machine, too, some texts are then generated
        "BANKLLM_RESPONDER": "model",
        "BANKLLM_UNDERSTANDING": "model",
    }


def streamed(server: ServerProcess, bearer: str) -> str:
    """The events of an unclear message."""
    body, headers = {"message": MESSAGES[-1], "customer_id": "CUST001"}, {"Authorization": f"Bearer {bearer}"}
    url = f"{server.url}/api/v1/chat/stream"
    return httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False).text


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FinishedLoad]:
    folder = tmp_path_factory.mktemp("finished")
    rules = [DEPLOY / "rules" / name for name in ("recording.yml", "alerts.yml")]
    tokens = {name: token(sub=name, exp=time.time() + 600) for name in CUSTOMERS}
    with PineconeServer() as pinecone:
        given = TOKENS | {"PINECONE_API_KEY": API_KEY, "PINECONE_CONTROLLER_HOST": pinecone.url}
        with (
            bank(folder, workers=2, **api_environment(given), **language_model(folder)) as server,
            PrometheusServer(server.port, folder / "prometheus", rules=rules) as prometheus,
        ):
            until(lambda: "unreachable" not in streamed(server, tokens["CUST001"]))  # the model is loaded
            texts = {"messages": MESSAGES, "customers": CUSTOMERS, "tokens": tokens, "output": folder / "load"}
            result = run_load(server.url, "open-loop", requests=REQUESTS, rate=RATE, **texts)
            assert not result.errors
            prometheus.wait_for_scrape()
            until(lambda: bool(prometheus.query(f"job_route:http_requests:rate5m{CHAT} > 0")))
            yield FinishedLoad(prometheus, server, result.measured, time.time())


@pytest.mark.parametrize(
    "promql",
    [
        f"histogram_quantile(0.95, sum by (le) (http_request_duration_seconds_bucket{CHAT}))",
        f"histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket{CHAT}[1m])))",
        f"job_route:http_request_duration_seconds:p95_5m{CHAT}",
    ],
)
def test_p95_from_promql_is_within_one_bucket_of_the_raw_rows(finished: FinishedLoad, promql: str) -> None:
    [total], [p95] = finished.query(f"sum(http_requests_total{CHAT})"), finished.query(promql)
    assert total.value == len(finished.chats) >= samples_needed(0.95)
    exact_ms = percentile([{"ms": str(row["service_ms"])} for row in finished.chats], "ms", 0.95).value
    assert exact_ms is not None
    assert abs(bisect_left(HTTP_BUCKETS, exact_ms / 1000) - bisect_left(HTTP_BUCKETS, p95.value)) <= 1


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_every_panel_shows_data(finished: FinishedLoad, panel: dict[str, Any]) -> None:
    if "gen_ai" in str(panel) or "generation" in str(panel):
        pytest.importorskip("openvino_genai")
    for target in panel["targets"]:
        all_instances, this_instance, other_instance = (
            finished.query(target["expr"].replace("$__rate_interval", "1m").replace("$instance", instance))
            for instance in (".*", f"127.0.0.1:{finished.server.port}", "another")
        )
        values = [sample.value for sample in all_instances if math.isfinite(sample.value)]
        assert values, target["expr"]
        assert any(values) or panel["title"] in QUIET, target["expr"]
        assert sorted(map(repr, this_instance)) == sorted(map(repr, all_instances)), "NaN is equal to NaN as a text"
        if "$instance" in target["expr"]:
            assert not any(sample.value for sample in other_instance)
        shown = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
        assert all(shown <= set(sample.labels) for sample in all_instances), target["legendFormat"]
