"""The metrics of the server: counters, labels, and the samples that a percentile needs."""

import pytest

from bankllm import __version__
from bankllm.errors import StoreError
from bankllm.evidence.statistics.samples import samples_needed
from bankllm.telemetry.metrics import HTTP_BUCKETS, PERCENTILES, ServerMetrics
from bankllm.vectors.embedder import CacheCounts
from tests.support.prometheus_text import samples


@pytest.fixture
def metrics() -> ServerMetrics:
    return ServerMetrics("minilm")


def test_a_request_is_counted_in_its_bucket_by_route_method_and_status(metrics: ServerMetrics) -> None:
    metrics.observe_request("/api/v1/chat", "POST", 200, 0.03)
    metrics.set_model_info({"model": "minilm+lora", "intents": "84"})
    values = samples(metrics.render()[0])
    labels = (("method", "POST"), ("route", "/api/v1/chat"), ("status", "200"))
    assert values["http_requests_total", labels] == 1
    buckets = {
        dict(key)["le"]: value
        for (name, key), value in values.items()
        if name == "http_request_duration_seconds_bucket"
    }
    assert buckets["0.025"] == 0
    assert buckets["0.05"] == 1
    assert [float(bound) for bound in buckets] == [*HTTP_BUCKETS, float("inf")]
    assert values["bankllm_build_info", (("model", "minilm"), ("version", __version__))] == 1
    assert values["bankllm_model_info", (("intents", "84"), ("model", "minilm+lora"))] == 1
    assert values["process_resident_memory_bytes", ()] > 0


def test_a_reply_counts_its_stages_and_its_responder(metrics: ServerMetrics) -> None:
    def stages() -> dict[str, float]:
        values = samples(metrics.render()[0]).items()
        return {
            dict(key)["stage"]: value for (name, key), value in values if name.endswith("stage_duration_seconds_count")
        }

    assert stages() == dict.fromkeys(("queue", "tokenise", "encode", "classify", "retrieve", "respond"), 0)
    for fallback, unavailable in ((None, ["memory"]), ("time-out", []), ("time-out", [])):
        metrics.observe_reply({"queue": 0.002, "tokenise": 0.0002}, "template", fallback, unavailable)
    assert stages() == {"queue": 3, "tokenise": 3, "encode": 0, "classify": 0, "retrieve": 0, "respond": 0}
    values = samples(metrics.render()[0])
    assert values["bankllm_stage_duration_seconds_bucket", (("le", "0.00025"), ("stage", "tokenise"))] == 3
    assert values["bankllm_replies_total", (("fallback", "none"), ("responder", "template"))] == 1
    assert values["bankllm_replies_total", (("fallback", "time-out"), ("responder", "template"))] == 2
    assert values["bankllm_unavailable_total", (("what", "memory"),)] == 1
    assert values["bankllm_unavailable_total", (("what", "storing"),)] == 0


def test_a_text_of_the_model_counts_times_and_tokens_by_task(metrics: ServerMetrics) -> None:
    times = {"queue_s": 0.03, "first_s": 0.2, "total_s": 0.6}
    metrics.observe_generated(
        model="openvino:m", task="understand", prompt_tokens=60, output_tokens=21, batch=2.5, **times
    )
    values = samples(metrics.render()[0])
    labels = (("gen_ai_operation_name", "understand"), ("gen_ai_request_model", "openvino:m"))
    assert values["gen_ai_server_time_per_output_token_seconds_sum", labels] == pytest.approx(0.02)
    assert values["gen_ai_server_time_to_first_token_seconds_bucket", (*labels, ("le", "0.25"))] == 1
    assert values["gen_ai_server_time_to_first_token_seconds_bucket", (*labels, ("le", "0.1"))] == 0
    for kind, tokens in (("input", 60), ("output", 21)):
        assert values["gen_ai_client_token_usage_sum", (*labels, ("gen_ai_token_type", kind))] == tokens
    summary = metrics.summary()
    assert summary["time_to_first_token_p50_ms"] == pytest.approx(200, rel=0.01)
    assert summary["tokens_per_s"] > 0


def test_lookups_are_counted_by_the_source_of_the_embedding(metrics: ServerMetrics) -> None:
    counts = CacheCounts()
    counts.observe = metrics.observe_lookups
    counts.add(hits=3, misses=2)
    counts.add(hits=1, misses=0)
    values = samples(metrics.render()[0])
    assert [values["bankllm_embedding_lookups_total", (("found", name),)] for name in ("memory", "miss")] == [4, 2]
    assert (counts.hits, counts.misses) == (4, 2)


def test_the_summary_names_its_window_and_needs_enough_samples(metrics: ServerMetrics) -> None:
    assert dict(PERCENTILES.values()) == {q: samples_needed(q) for q in (0.5, 0.95, 0.99)}
    for milliseconds in range(1, 201):
        status = {199: 500, 200: 503}.get(milliseconds, 200)
        metrics.observe_request("/api/v1/chat", "POST", status, milliseconds / 1000)
    assert metrics.summary() == {
        "latency_p50_ms": pytest.approx(100, rel=0.01),
        "latency_p95_ms": pytest.approx(190, rel=0.01),
        "latency_p99_ms": None,
        "requests_total": 200,
        "error_rate": 0.01,
        "time_to_first_token_p50_ms": None,
        "time_to_first_token_p95_ms": None,
        "tokens_per_s": 0.0,
        "window": "the last 10 minutes",
        "window_requests": 200,
        "workers": 1,
    }


def test_the_summary_omits_health_checks_and_other_instances(metrics: ServerMetrics) -> None:
    for route in ("/health", "/health/ready", "/health/metrics", "/metrics"):
        metrics.observe_request(route, "GET", 200, 0.0001)
    ServerMetrics("minilm").observe_request("/api/v1/chat", "POST", 200, 0.03)
    assert metrics.summary()["requests_total"] == 0
    assert metrics.summary()["error_rate"] is None


def test_every_render_reads_the_outbox(metrics: ServerMetrics) -> None:
    assert "bankllm_outbox" not in metrics.render()[0].decode()
    backlog = [(3.0, 1.5), (0.0, 0.0)]

    def read() -> tuple[float, float]:
        if not backlog:
            raise StoreError("busy")
        return backlog.pop(0)

    metrics.watch_outbox(read)
    for depth, age in (("3.0", "1.5"), ("0.0", "0.0"), ("NaN", "NaN")):
        page = metrics.render()[0].decode()
        assert f"\nbankllm_outbox_depth {depth}\n" in page
        assert f"\nbankllm_outbox_oldest_seconds {age}\n" in page
