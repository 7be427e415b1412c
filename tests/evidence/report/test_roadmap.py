"""The roadmap's claims are compared with the measured records."""

import pytest

from bankllm.evidence.records import read_records
from bankllm.evidence.report.roadmap import ROADMAP, Target, judge_targets
from bankllm.evidence.run import Run
from tests.support.language_records import add_language_records
from tests.support.sealed_run import TELLER77, fill


@pytest.mark.parametrize(
    ("target", "status", "why"),
    [
        (Target("88 %", "LoRA", "training.lora_r8.accuracy", at_least=0.88), "met", "interval meets the claimed"),
        (Target("93 %", "LoRA", "training.lora_r8.accuracy", at_least=0.93), "undecided", "contains the claimed"),
        (Target("1 s", "chat", "chat.sequential.p95_ms", at_most=1000), "met", "interval meets the claimed"),
        (Target("100 ms", "chat", "chat.sequential.p95_ms", at_most=100), "not met", "interval misses the claimed"),
        (Target("80/s", "load", "load.ab.throughput", at_least=80), "met", "the value meets the claimed"),
        (Target("1 ms", "p99", "chat.sequential.p99_ms", at_most=1), "not measured", "p99 needs 662 samples"),
        (Target("1 ms", "none", "chat.none", at_most=1), "not measured", "this run has no such record"),
    ],
)
def test_a_target_gets_a_status_and_a_reason(run: Run, target: Target, status: str, why: str) -> None:
    fill(run)
    (judged,) = judge_targets(read_records(run.folder), [target])
    assert judged.status == status
    assert why in judged.why


def test_claims_about_the_language_model_are_answered_by_its_records(run: Run) -> None:
    fill(run)
    add_language_records(run.folder)
    by_record = {judged.target.record_id: judged for judged in judge_targets(read_records(run.folder))}
    assert by_record["training.smollm2_qlora_r_8.accuracy"].status == "not measured"
    calls = by_record["language.packaged.understand_exact"]
    assert (calls.target.claimed, calls.status, calls.measured) == ("no value", "measured", "82.0 %")
    assert calls.why == "the roadmap has no value to compare with"
    tuned = by_record["training.smollm2_lora_r_8.accuracy"]
    assert (tuned.target.claimed, tuned.status, tuned.measured) == ("91.2 %", "not met", "60.0 %")
    speed = by_record["language.packaged.tokens_per_s"]
    assert (speed.target.claimed, speed.status, speed.measured) == ("no value", "measured", "160.0 tokens/s")
    assert by_record["chat.stream.p95_ms"].status == "met"
    assert by_record["load.model.locust.p95_ms"].status == "not met"


def test_a_load_with_fewer_users_does_not_decide_a_claim(run: Run) -> None:
    run.write_rows("locust", [{"ms": n} for n in range(200)])
    run.measure_percentiles("load.locust", "locust", title="Locust", column="ms", conditions={"users": 5})
    by_record = {judged.target.record_id: judged for judged in judge_targets(read_records(run.folder))}
    assert by_record["load.locust.p95_ms"].status == "undecided"
    assert by_record["load.locust.p95_ms"].why == "measured with 5 users, claimed for 100"


def test_a_measurement_on_teller77_does_not_decide_a_claim_for_banking77(run: Run) -> None:
    fill(run, data=TELLER77)
    by_record = {judged.target.record_id: judged for judged in judge_targets(read_records(run.folder))}
    assert len(by_record) == len(ROADMAP)
    assert by_record["training.lora_r8.accuracy"].status == "undecided"
    assert by_record["training.lora_r8.accuracy"].why == "measured on teller77, claimed for banking77"
