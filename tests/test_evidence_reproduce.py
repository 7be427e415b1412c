"""Measured again: within the stated tolerance, outside, or not comparable, and why."""

from pathlib import Path
from typing import Any

import pytest

from bankllm.errors import RunError
from bankllm.evidence.manifest import NotebookRun, read_manifest, write_manifest
from bankllm.evidence.reproduce import judge_repetition, parameters_of, reproduce
from tests.sealed_run import ENVIRONMENT, TELLER77, sealed_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sealed_run(tmp_path / "original")


def judged(folder: Path, again: Path) -> dict[str, tuple[str, str]]:
    return {one.id: (one.outcome, one.why) for one in judge_repetition(folder, again)}


def test_the_same_again_is_within(folder: Path, tmp_path: Path) -> None:
    found = judged(folder, sealed_run(tmp_path / "again"))
    assert found["training.lora_r8.accuracy"][0] == "within"
    assert "93.0 % then, 93.0 % now; tolerance: the first run's 95 % interval" in found["training.lora_r8.accuracy"][1]
    assert found["chat.sequential.p99_ms"][0] == found["load.locust.p95_ms"][0] == "not comparable"


@pytest.mark.parametrize(
    ("how", "id", "outcome"),
    [
        ({"slower": 1.4}, "chat.sequential.p95_ms", "within"),
        ({"slower": 1.6}, "chat.sequential.p95_ms", "outside"),
        ({"slower": 0.6}, "chat.sequential.p95_ms", "outside"),
        ({"wrong": range(20)}, "training.lora_r8.accuracy", "within"),
        ({"wrong": range(40)}, "training.lora_r8.accuracy", "outside"),
        ({"data": TELLER77}, "training.lora_r8.accuracy", "not comparable"),
    ],
)
def test_tolerances(folder: Path, tmp_path: Path, how: dict[str, Any], id: str, outcome: str) -> None:
    assert judged(folder, sealed_run(tmp_path / "again", **how))[id][0] == outcome


def test_all_right_twice_is_within(tmp_path: Path) -> None:
    first, again = (sealed_run(tmp_path / name, wrong=()) for name in ("first", "again"))
    assert judged(first, again)["training.lora_r8.accuracy"][0] == "within"


def test_another_machine_is_judged_by_quality_alone(folder: Path, tmp_path: Path) -> None:
    found = judged(folder, sealed_run(tmp_path / "again", environment=ENVIRONMENT | {"cpu": "Another"}))
    assert found["training.lora_r8.accuracy"][0] == "within"
    assert found["chat.sequential.p50_ms"] == ("not comparable", "machine: cpu Sample CPU / Another")


def test_the_commands_parameters_are_read() -> None:
    assert parameters_of("bankllm run --profile quick -p only=lora_r8 --parameter=users=5 --parameter seeds=2") == {
        "only": "lora_r8",
        "seeds": 2,
        "users": 5,
    }
    assert parameters_of("bankllm run") == {}


def test_the_same_notebooks_run_again_with_the_same_profile_and_parameters(folder: Path, tmp_path: Path) -> None:
    asked: list[Any] = []

    def repeat(*how: Any) -> Any:
        asked.extend(how)
        again = sealed_run(tmp_path / "again")
        return again, read_manifest(again)

    again, found = reproduce(folder, repeat)
    assert again == tmp_path / "again"
    assert asked == ["quick", ["01_local_validation"], {"only": "lora_r8"}]
    assert {one.outcome for one in found} == {"within", "not comparable"}


def test_a_repetition_that_fails_says_how_to_carry_on(folder: Path, tmp_path: Path) -> None:
    again = sealed_run(tmp_path / "again")
    failed = [NotebookRun(name="01_local_validation", status="failed", seconds=1, error="cell 3")]
    manifest = read_manifest(again).model_copy(update={"notebooks": failed})
    with pytest.raises(RunError, match=r"01_local_validation failed here\. Carry on with bankllm run --resume again"):
        reproduce(folder, lambda *how: (again, manifest))


def test_a_run_of_which_nothing_is_done_cannot_be_reproduced(folder: Path) -> None:
    write_manifest(folder, read_manifest(folder).model_copy(update={"notebooks": []}))
    with pytest.raises(RunError, match="has no notebook that is done"):
        reproduce(folder, lambda *how: (folder, read_manifest(folder)))
