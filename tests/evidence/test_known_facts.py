"""Units fit statistics, data and models match their names, and exclusions are read from the raw files."""

from pathlib import Path

import pytest

from bankllm import datasets
from bankllm.datasets.banking77 import SHA256
from bankllm.errors import RunError
from bankllm.evidence import known_facts
from bankllm.evidence.records import write_rows
from bankllm.evidence.run import Run, open_run
from bankllm.evidence.statistics.registry import STATISTICS
from bankllm.evidence.validity_marks import exclusions, load_faults, reasons
from bankllm.evidence.verification.verify import TRAINING_FILE, verify_records
from bankllm.model import artifact, base_models

MS, SECONDS = {"column": "latency_ms"}, {"column": "total_seconds"}


def test_known_facts_equal_the_constants_of_the_loaders() -> None:
    assert datasets.load("teller77").conditions() == {"dataset": "teller77", **known_facts.KNOWN_DATA["teller77"]}
    assert {key: known_facts.KNOWN_DATA["banking77"][f"{key}_sha256"] for key in ("train", "test")} == (SHA256)
    assert all(datasets.licence(name) for name in known_facts.KNOWN_DATA)
    assert set(known_facts.KNOWN_MODELS.values()) == {base_models.MINILM_SHA256}
    assert TRAINING_FILE == artifact.TRAINING_FILE


def test_banking77_and_the_joined_data_set_are_known(banking77: Path) -> None:
    for name in ("banking77", "assistant"):
        conditions = datasets.load(name).conditions()
        assert known_facts.data_fault(conditions) is None
        assert str(conditions["dataset"]) in known_facts.KNOWN_DATA


@pytest.mark.parametrize(
    ("statistic", "parameters", "unit", "fits"),
    [
        ("percentile", MS, "ms", True),
        ("percentile", MS, "s", False),
        ("single", SECONDS, "s", True),
        ("single", SECONDS, "ms", False),
        ("single", {"column": "rss_bytes"}, "MB", False),
        ("single", {"column": "requests_per_s"}, "requests/s", True),
        ("single", {"column": "requests_per_s"}, "ms", False),
        ("single", {"column": "texts"}, "messages", True),
        ("single", {"column": "texts"}, "ms", False),
        ("accuracy", {}, "share", True),
        ("accuracy", {}, "%", False),
        ("mcnemar", {}, "share", False),
        ("rate", {"amount": "texts"}, "texts/s", True),
        ("rate", {"amount": "texts"}, "vectors/s", False),
        ("throughput", {}, "requests/s", True),
        ("throughput", {}, "requests", False),
        ("count", {}, "requests", True),
        ("count", {}, "ms", False),
        ("histogram_quantile", {"bound": "le_ms"}, "ms", True),
        ("histogram_quantile", {"bound": "le_ms"}, "s", False),
        ("across", {"of": "percentile", "pick": "max", **MS}, "ms", True),
        ("across", {"of": "percentile", "pick": "max", **MS}, "share", False),
        ("across", {"of": "percentile", "pick": "spread", **MS}, "share", True),
        ("bootstrap", {"of": "macro_f1"}, "share", True),
        ("bootstrap", {"of": "macro_f1"}, "p", False),
    ],
)
def test_unit_fault_accepts_only_units_that_fit_the_statistic(
    statistic: str, parameters: dict[str, str], unit: str, fits: bool
) -> None:
    assert statistic in STATISTICS
    assert (known_facts.unit_fault(statistic, parameters, unit) is None) == fits


def test_data_sets_and_models_must_have_the_hashes_of_their_names() -> None:
    whole = {"dataset": "teller77", **known_facts.KNOWN_DATA["teller77"]}
    assert known_facts.data_fault(whole) is None
    assert known_facts.data_fault(whole | {"dataset": "teller77[7 intents]", "intents": 7}) is None
    assert known_facts.data_fault({"dataset": "my own", "test_sha256": "0"}) is None
    assert known_facts.data_fault({}) is None
    assert "banking77: expected train_sha256" in str(known_facts.data_fault(whole | {"dataset": "banking77"}))
    assert "teller77: expected intents 84, found 77" in str(known_facts.data_fault(whole | {"intents": 77}))
    assert known_facts.data_fault(whole | {"dataset": "ours"}) == (
        "the data set is named 'ours', but its files are those of teller77"
    )
    assert known_facts.model_fault({"model": "all-MiniLM-L6-v2", "model_sha256": base_models.MINILM_SHA256}) is None
    assert known_facts.model_fault({"model": "other", "model_sha256": None}) is None
    assert known_facts.model_fault({"model": "all-MiniLM-L6-v2", "model_sha256": "0"}) is not None
    assert known_facts.model_fault({"model": "large", "model_sha256": base_models.MINILM_SHA256}) is not None


def test_reasons_are_joined_without_repetition() -> None:
    assert reasons(None, [], None) is None
    assert reasons("busy", ["busy", "cut short"], "p99 needs 662") == "busy; cut short; p99 needs 662"


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


def test_a_busy_load_generator_makes_a_record_invalid(run: Run) -> None:
    run.write_rows("load", [{"ms": 1}])
    run.write_rows("load_summary", [{"generator_cpu_share": 0.99}])
    record = run.measure("load.ms", "single", "load", title="t", unit="ms", column="ms")
    assert record.invalid_because == "the load generator was busy for 99% of a core, over 90%"
    assert verify_records(run.folder).summary() == "HOLDS: 0 ok, 1 invalid, 0 not measured, 0 does not hold"


def test_exclusions_are_updated_with_their_records(run: Run) -> None:
    run.write_rows("chat", [{"ms": 1}])
    how = {"raw": "chat", "statistic": "single", "title": "t", "unit": "ms", "column": "ms"}
    for id in ("a", "b"):
        run.measure(id, **how, invalid_because=f"{id} was cut short")  # type: ignore[arg-type]
    assert exclusions(run.folder) == {"a": "a was cut short", "b": "b was cut short"}
    run.measure("a", **how)  # type: ignore[arg-type]
    assert exclusions(run.folder) == {"b": "b was cut short"}
    assert verify_records(run.folder).holds
    open_run(run.notebook, "smoke", run.folder)
    assert exclusions(run.folder) == {}
