"""What was promised against what was measured."""

import pytest

from bankllm.evidence.records import read_records
from bankllm.evidence.report.roadmap import ROADMAP, Target, judge_targets
from bankllm.evidence.run import Run
from tests.sealed_run import TELLER77, fill


@pytest.mark.parametrize(
    ("target", "outcome", "why"),
    [
        (Target("88 %", "LoRA", "training.lora_r8.accuracy", at_least=0.88), "kept", "promised side"),
        (Target("93 %", "LoRA", "training.lora_r8.accuracy", at_least=0.93), "cannot be told", "holds the promised"),
        (Target("99 %", "LoRA", "training.lora_r8.accuracy", at_least=0.99), "not kept", "other side"),
        (Target("1 s", "chat", "chat.sequential.p95_ms", at_most=1000), "kept", "promised side"),
        (Target("100 ms", "chat", "chat.sequential.p95_ms", at_most=100), "not kept", "other side"),
        (Target("100/s", "load", "load.ab.throughput", at_least=100), "not kept", "the value misses it"),
        (Target("80/s", "load", "load.ab.throughput", at_least=80), "kept", "the value reaches it"),
        (Target("1 ms", "p99", "chat.sequential.p99_ms", at_most=1), "not measured", "p99 needs 662 samples"),
        (Target("1 ms", "gone", "chat.gone", at_most=1), "not measured", "this run has no such record"),
    ],
)
def test_an_outcome_and_its_reason(run: Run, target: Target, outcome: str, why: str) -> None:
    fill(run)
    (judged,) = judge_targets(read_records(run.folder), [target])
    assert judged.outcome == outcome
    assert why in judged.why


def test_a_number_on_teller77_answers_no_promise_for_banking77(run: Run) -> None:
    fill(run, data=TELLER77)
    judged = {one.target.record: one for one in judge_targets(read_records(run.folder))}
    assert len(judged) == len(ROADMAP)
    assert judged["training.lora_r8.accuracy"].outcome == "cannot be told"
    assert judged["training.lora_r8.accuracy"].why == "measured on teller77, promised for banking77"
