"""Reproducing a run: each record is within the tolerance, outside it, or not comparable, with the reason."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bankllm.errors import RunError
from bankllm.evidence.manifest import read_manifest, write_manifest
from bankllm.evidence.reproduce import judge_repetition, repetition_of
from tests.support.sealed_run import ENVIRONMENT, TELLER77, recorded_run


def results(folder: Path, again: Path) -> dict[str, tuple[str, str]]:
    return {result.id: (result.outcome, result.why) for result in judge_repetition(folder, again)}


@pytest.mark.parametrize(
    ("how", "id", "outcome", "why"),
    [
        ({}, "training.lora_r8.accuracy", "within", "original 93.0 %, repeated 93.0 %; tolerance: the first run's"),
        ({}, "chat.sequential.p99_ms", "not comparable", "invalid: p99 needs"),
        ({}, "load.locust.p95_ms", "not comparable", "not measured"),
        ({"slower": 1.4}, "chat.sequential.p95_ms", "within", "a factor of 1.5"),
        ({"slower": 1.6}, "chat.sequential.p95_ms", "outside", "a factor of 1.5"),
        ({"slower": 0.6}, "chat.sequential.p95_ms", "outside", "a factor of 1.5"),
        ({"wrong": range(20)}, "training.lora_r8.accuracy", "within", "interval"),
        ({"wrong": range(40)}, "training.lora_r8.accuracy", "outside", "interval"),
        ({"data": TELLER77}, "training.lora_r8.accuracy", "not comparable", "dataset banking77 / teller77"),
    ],
)
def test_tolerances(folder: Path, tmp_path: Path, how: dict[str, Any], id: str, outcome: str, why: str) -> None:
    found = results(folder, recorded_run(tmp_path / "again", **how))[id]
    assert found[0] == outcome
    assert why in found[1]


def test_two_runs_with_100_percent_accuracy_are_within_the_tolerance(tmp_path: Path) -> None:
    first, again = (recorded_run(tmp_path / name, wrong=()) for name in ("first", "again"))
    assert results(first, again)["training.lora_r8.accuracy"][0] == "within"


def test_on_another_machine_only_quality_is_compared(folder: Path, tmp_path: Path) -> None:
    found = results(folder, recorded_run(tmp_path / "again", environment=ENVIRONMENT | {"cpu": "Another"}))
    assert found["training.lora_r8.accuracy"][0] == "within"
    assert found["chat.sequential.p50_ms"] == ("not comparable", "machine: cpu Sample CPU / Another")


def test_a_run_is_repeated_with_its_profile_notebooks_and_parameters(folder: Path) -> None:
    how = {"profile": "quick", "only": ["01_local_validation"], "parameters": {"only": "lora_r8"}}
    assert repetition_of(folder) == how
    command = "bankllm run --profile quick -p only=lora_r8 --parameter=users=5 --parameter seeds=2"
    manifest = replace(read_manifest(folder), command=command)
    write_manifest(folder, manifest)
    assert repetition_of(folder)["parameters"] == {"only": "lora_r8", "seeds": 2, "users": 5}
    for price in ("--price-per-hour 0.1", "--price-per-hour=0.1"):
        write_manifest(folder, replace(manifest, command=f"bankllm run {price}"))
        assert repetition_of(folder)["parameters"] == {"price_per_hour": 0.1}
    write_manifest(folder, replace(manifest, notebooks=[]))
    with pytest.raises(RunError, match="has no finished notebook"):
        repetition_of(folder)
