"""Units fit statistics, data and models match their names, and exclusions are read from the raw files."""

from pathlib import Path
from typing import Any

import pytest

from bankllm import datasets
from bankllm.errors import RunError
from bankllm.evidence.record_rules import KNOWN_HASHES, exclusions, identity_fault, load_faults, unit_fault
from bankllm.evidence.records import write_rows
from bankllm.evidence.run import Run, open_run
from bankllm.evidence.verification.verify import TRAINING_FILE, verify_records
from bankllm.model import artifact
from tests.support.sealed_run import BANKING77, TELLER77

MS, SECONDS = {"column": "latency_ms"}, {"column": "total_seconds"}
ACROSS = {"of": "percentile", **MS}


@pytest.mark.parametrize("conditions", [BANKING77, TELLER77], ids=lambda conditions: conditions["dataset"])
def test_known_facts_equal_the_constants_of_the_loaders(conditions: dict[str, Any]) -> None:
    assert conditions["dataset"] in KNOWN_HASHES[conditions["test_sha256"]]
    assert KNOWN_HASHES[conditions["model_sha256"]] == ("all-MiniLM-L6-v2",)
    assert all(datasets.licence(name) for names in KNOWN_HASHES.values() for name in names if "MiniLM" not in name)
    assert TRAINING_FILE == artifact.TRAINING_FILE


def test_banking77_and_the_joined_data_set_are_known(banking77: Path) -> None:
    for name in ("banking77", "assistant"):
        conditions = datasets.load(name).conditions()
        assert conditions["dataset"] in KNOWN_HASHES[str(conditions["test_sha256"])]


@pytest.mark.parametrize(
    ("statistic", "parameters", "unit", "other"),
    [
        ("percentile", MS, "ms", "s"),
        ("single", SECONDS, "s", "ms"),
        ("single", {"column": "requests_per_s"}, "requests/s", "ms"),
        ("accuracy", {}, "share", "%"),
        ("mcnemar", {}, "p", "share"),
        ("rate", {"amount": "texts"}, "texts/s", "vectors/s"),
        ("across", ACROSS | {"pick": "max"}, "ms", "share"),
        ("across", ACROSS | {"pick": "spread"}, "share", "ms"),
    ],
)
def test_only_the_unit_that_fits_the_statistic_is_accepted(
    statistic: str, parameters: dict[str, str], unit: str, other: str
) -> None:
    assert unit_fault(statistic, parameters, unit) is None
    assert unit_fault(statistic, parameters, other) is not None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"dataset": "teller77[7 intents]", "intents": 7}, None),
        ({"model": "sentence-transformers/all-MiniLM-L6-v2"}, None),
        ({"model": "other", "model_sha256": None}, None),
        ({"dataset": "banking77"}, "the dataset is named 'banking77', but its test_sha256 is that of teller77"),
        ({"dataset": "ours"}, None),
        ({"dataset": "folder teller77"}, None),
        ({"dataset": "PolyAI/Banking77"}, "named 'PolyAI/Banking77', but its test_sha256 is that of teller77"),
        ({"test_sha256": "0" * 64}, "the dataset is named 'teller77', but its test_sha256 is 000000000000…"),
        ({"model": "large"}, "the model is named 'large', but its model_sha256 is that of all-MiniLM-L6-v2"),
        ({"model_sha256": "1" * 64}, "the model is named 'all-MiniLM-L6-v2', but its model_sha256 is 111111111111…"),
    ],
)
def test_data_sets_and_models_must_have_the_hashes_of_their_names(change: dict[str, Any], fault: str | None) -> None:
    found = identity_fault(TELLER77 | change)
    assert found == fault or (found and fault and fault in found)
    assert identity_fault({}) is None


@pytest.mark.parametrize("name", ["raw/02_load_summary.csv", "raw/02_load_summary.csv.gz"])
def test_the_summary_of_a_load_applies_to_its_rows(tmp_path: Path, name: str) -> None:
    for busy, because, faults in (
        (0.5, "", []),
        (0.95, "", ["the load generator was busy for 95% of a core, over 90%"]),
        ("nan", "", ["the load generator was busy for nan% of a core, over 90%"]),
        (0.95, "cut short", ["cut short"]),
        ("", "", []),
    ):
        write_rows(tmp_path / name, [{"generator_cpu_share": busy, "invalid_because": because}])
        assert load_faults(tmp_path, "raw/02_load.csv.gz") == load_faults(tmp_path, name) == faults
    write_rows(tmp_path / name, [{"generator_cpu_share": "much"}])
    with pytest.raises(RunError, match="generator_cpu_share is 'much'"):
        load_faults(tmp_path, name)


def test_exclusions_are_updated_with_their_records(run: Run) -> None:
    run.write_rows("chat", [{"ms": 1}])
    how: dict[str, Any] = {"raw": "chat", "statistic": "single", "title": "t", "unit": "ms", "column": "ms"}
    for id in ("a", "b"):
        run.measure(id, **how, invalid_because=f"{id} was cut short")
    assert exclusions(run.folder) == {"a": "a was cut short", "b": "b was cut short"}
    run.measure("a", **how)
    assert exclusions(run.folder) == {"b": "b was cut short"}
    assert verify_records(run.folder).holds
    open_run(run.notebook, "smoke", run.folder)
    assert exclusions(run.folder) == {}
