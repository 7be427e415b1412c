"""Stage times from two scrapes of the server's metrics: only the chats between the scrapes count."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bankllm.lab.prometheus import Sample
from bankllm.lab.stage_times import stage_buckets, stage_times
from bankllm.telemetry.metrics import ServerMetrics


def scraped(metrics: ServerMetrics) -> list[Sample]:
    families = text_string_to_metric_families(metrics.render()[0].decode())
    return [Sample(s.name, s.labels, s.value) for family in families for s in family.samples]


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
    assert 1.0 < queue["p50_ms"] <= 2.5
    assert 5 < encode["p50_ms"] <= 10
    assert 50 < encode["p95_ms"] <= 75
    counts = {(row["stage"], row["le_ms"]): row["requests"] for row in stage_buckets(before, after)}
    assert (counts["encode", 10.0], counts["encode", 50.0], counts["encode", "+Inf"]) == (180, 180, 200)
    assert counts["respond", "+Inf"] == 0


def test_too_few_chats_have_a_mean_and_no_percentile() -> None:
    metrics = ServerMetrics("minilm")
    before = scraped(metrics)
    assert stage_times(before, before) == []
    metrics.observe_reply({"classify": 0.001}, "template")
    [row] = stage_times(before, scraped(metrics))
    assert row == {"stage": "classify", "chats": 1, "mean_ms": pytest.approx(1.0), "p50_ms": None, "p95_ms": None}
