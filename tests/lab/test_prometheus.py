"""Reading metrics over real sockets, and through a real Prometheus if it is installed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from bankllm.errors import NotMeasured, ServerError, UsageError
from bankllm.lab.prometheus import (
    PrometheusServer,
    bucket_rows,
    generation_times,
    scrape,
    stage_buckets,
    stage_times,
)
from bankllm.telemetry.metrics import HTTP_BUCKETS, ServerMetrics
from bankllm.util.processes import free_port


@pytest.fixture
def endpoint() -> Iterator[tuple[int, Histogram]]:
    """The port of an endpoint, and its histogram of chats."""
    registry = CollectorRegistry()
    seconds = Histogram("http_request_duration_seconds", "Time", ["route"], buckets=HTTP_BUCKETS, registry=registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield server.server_port, seconds.labels("/api/v1/chat")
    server.shutdown()
    server.server_close()
    thread.join()


def test_scrape_reads_metrics_and_refuses_other_content(
    endpoint: tuple[int, Histogram], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, seconds = endpoint
    seconds.observe(0.03)
    samples = scrape(f"http://127.0.0.1:{port}/metrics")
    assert Sample("http_request_duration_seconds_count", {"route": "/api/v1/chat"}, 1.0) in samples
    with pytest.raises(ServerError, match="No server answers at"):
        scrape(f"http://127.0.0.1:{free_port()}/metrics")
    page = httpx.Response(200, text="hello there\n", request=httpx.Request("GET", "http://127.0.0.1"))
    monkeypatch.setattr(httpx, "request", lambda *_, **__: page)
    with pytest.raises(ServerError, match="did not return Prometheus metrics"):
        scrape("http://127.0.0.1/")


def test_a_missing_binary_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotMeasured, match="prometheus binary not found; install it"), PrometheusServer(1, tmp_path):
        pass
    assert not list(tmp_path.iterdir())


needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus binary")


@needs_prometheus
@pytest.mark.slow
def test_the_promql_p95_is_in_the_bucket_of_the_exact_p95(endpoint: tuple[int, Histogram], tmp_path: Path) -> None:
    port, histogram = endpoint
    raw = sorted(0.2 * (k / 200) ** 2 for k in range(1, 201))
    with PrometheusServer(port, tmp_path) as prometheus:
        for seconds in raw:
            histogram.observe(seconds)
        prometheus.wait_for_scrape()
        [total] = prometheus.query("sum(http_request_duration_seconds_count)")
        [p95] = prometheus.query("histogram_quantile(0.95, sum by (le) (http_request_duration_seconds_bucket))")
        with pytest.raises(UsageError, match="rejected the query 'sum\\('"):
            prometheus.query("sum(")
        with pytest.raises(UsageError, match="returns a matrix, expected one value per series"):
            prometheus.query("up[10s]")
        process = prometheus.process
    assert total == Sample("", {}, 200.0)
    exact = raw[189]
    upper = next(bound for bound in HTTP_BUCKETS if bound >= exact)
    lower = max(bound for bound in (0.0, *HTTP_BUCKETS) if bound < exact)
    assert lower <= p95.value <= upper
    assert process.poll() == 0


@needs_prometheus
@pytest.mark.slow
def test_a_target_that_does_not_answer_is_an_error_and_prometheus_is_stopped(tmp_path: Path) -> None:
    server = PrometheusServer(9, tmp_path, timeout_s=3)
    with pytest.raises(ServerError, match=r"could not scrape 127\.0\.0\.1:9/metrics within 3 s"), server:
        pass
    assert server.process.poll() is not None


def test_bucket_rows_are_the_increase_between_two_scrapes() -> None:
    def bucket(le: str, count: float, method: str = "POST", route: str = "/chat") -> Sample:
        return Sample("http_request_duration_seconds_bucket", {"le": le, "route": route, "method": method}, count)

    before = [bucket("0.1", 2), bucket("+Inf", 3)]
    after = [
        bucket("0.1", 5),
        bucket("+Inf", 9),
        bucket("0.1", 1, method="GET"),
        bucket("+Inf", 1, method="GET"),
        bucket("0.1", 7, route="/health"),
        Sample("http_requests_total", {"route": "/chat"}, 10),
    ]
    rows = bucket_rows(before, after, route="/chat")
    assert rows == [{"le_ms": 100.0, "requests": 4}, {"le_ms": "+Inf", "requests": 7}]


def scraped(metrics: ServerMetrics) -> list[Sample]:
    families = text_string_to_metric_families(metrics.render()[0].decode())
    return [sample for family in families for sample in family.samples]


def test_only_chats_between_the_scrapes_count() -> None:
    metrics = ServerMetrics("minilm")
    metrics.observe_reply({"queue": 5.0, "encode": 5.0}, "template")
    before = scraped(metrics)
    for number in range(200):
        metrics.observe_reply({"queue": 0.002, "encode": 0.01 if number < 180 else 0.06}, "template")
    after = scraped(metrics)
    queue, encode = stage_times(before, after)
    assert (queue["stage"], encode["stage"]) == ("queue", "encode")
    assert queue["chats"] == encode["chats"] == 200
    assert queue["mean_ms"] == pytest.approx(2.0)
    assert encode["mean_ms"] == pytest.approx(0.9 * 10 + 0.1 * 60)
    metrics.observe_reply({"classify": 0.001}, "template")
    [few] = stage_times(after, scraped(metrics))
    assert few == {"stage": "classify", "chats": 1, "mean_ms": pytest.approx(1.0)}
    counts = {(row["stage"], row["le_ms"]): row["requests"] for row in stage_buckets(before, after)}
    assert (counts["encode", 10.0], counts["encode", 50.0], counts["encode", "+Inf"]) == (180, 180, 200)
    assert counts["respond", "+Inf"] == 0


def test_the_time_of_a_text_is_split_into_waiting_prompt_and_tokens() -> None:
    metrics = ServerMetrics("minilm")
    before = scraped(metrics)
    for queue_s in (0.1, 0.3):
        times = {"queue_s": queue_s, "first_s": queue_s + 0.2, "total_s": queue_s + 1.0}
        metrics.observe_generated(model="m", task="word", prompt_tokens=60, output_tokens=21, batch=1, **times)
    (row,) = generation_times(before, scraped(metrics))
    assert (row["task"], row["texts"]) == ("word", 2)
    assert [row[f"{part}_ms"] for part in ("wait", "prompt", "tokens")] == pytest.approx([200, 200, 800])
