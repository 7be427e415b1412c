"""Comparing two runs: only records under equal conditions, and only differences that the intervals support."""

from dataclasses import replace
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.evidence.compare import compare, direction, lines
from bankllm.evidence.records import read_records
from tests.support.sealed_run import ENVIRONMENT, TELLER77, edit_text, recorded_run, sealed_run


def outcome(first: Path, second: Path, id: str) -> tuple[str, str]:
    (entry,) = [entry for entry in compare(first, second) if entry.id == id]
    return entry.outcome, entry.why


def test_equal_runs_show_no_difference(sealed_once: Path, folder: Path) -> None:
    compared = compare(sealed_once, folder)
    assert {entry.outcome for entry in compared} == {"no detectable difference", "not comparable"}
    assert [(entry.id, entry.why) for entry in compared if entry.outcome == "not comparable"] == [
        ("chat.sequential.p99_ms", "invalid: p99 needs 662 samples, there are 200 (both runs)"),
        ("load.locust.p95_ms", "not measured: locust is not here <apt> (both runs)"),
    ]


@pytest.mark.parametrize(("slower", "expected"), [(2.0, "worse"), (0.5, "better"), (1.01, "no detectable difference")])
def test_latency_is_compared_by_interval_and_lower_is_better(folder, tmp_path, slower: float, expected: str) -> None:
    second = recorded_run(tmp_path / "second", slower=slower)
    assert outcome(folder, second, "chat.sequential.p95_ms")[0] == expected


def test_equal_texts_are_compared_by_mcnemar_when_the_intervals_overlap(folder: Path, tmp_path: Path) -> None:
    """14 errors in 200 texts against 5 of these 14: the Wilson intervals overlap, the paired test is significant."""
    second = recorded_run(tmp_path / "second", wrong=range(5))
    a, b = (next(r for r in read_records(f) if r.id == "training.lora_r8.accuracy") for f in (folder, second))
    assert a.ci95
    assert b.ci95
    assert a.ci95[1] > b.ci95[0]
    assert outcome(folder, second, a.id) == ("better", "exact McNemar on 200 texts, p = 0.0039")
    assert outcome(second, folder, a.id)[0] == "worse"
    as_many = recorded_run(tmp_path / "as_many", wrong=range(100, 114))
    assert outcome(folder, as_many, a.id)[0] == "no detectable difference"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"data": TELLER77}, "dataset banking77 / teller77"),
        ({"environment": ENVIRONMENT | {"cpu": "Another CPU"}}, "machine: cpu Sample CPU / Another CPU"),
        ({"environment": ENVIRONMENT | {"gpus": [{"name": "T4"}]}}, "machine: gpus [] / [{'name': 'T4'}]"),
    ],
)
def test_runs_with_other_data_or_another_machine_are_not_compared(
    folder: Path, tmp_path: Path, how, reason: str
) -> None:
    compared = compare(folder, recorded_run(tmp_path / "second", **how))
    assert [entry.outcome for entry in compared] == ["not comparable"] * 8
    assert all(reason in entry.why for entry in compared)
    assert lines(compared)[-1] == "nothing compared; 8 not comparable"


def test_a_record_of_only_one_run_is_not_comparable(sealed_once: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no records"):
        compare(folder, tmp_path)
    edit_text(folder / "records.jsonl", lambda text: text.partition("\n")[2])
    assert outcome(sealed_once, folder, "training.lora_r8.accuracy") == ("not comparable", "only in the first run")


def test_direction_tells_whether_higher_or_lower_is_better(folder: Path) -> None:
    directions = {record.id: direction(record) for record in read_records(folder)}
    assert directions["training.lora_r8.accuracy"] == directions["load.ab.throughput"] == 1
    assert directions["chat.sequential.p50_ms"] == directions["training.lora_r8.adapter"] == -1
    share = next(record for record in read_records(folder) if record.unit == "share")
    named = {id: direction(replace(share, id=id, statistic="proportion")) for id in EXAMPLES}
    assert named == EXAMPLES


EXAMPLES = {"vectors.isolated": 1, "load.generator.late": -1, "load.errors": -1, "page.template_hits": 0}
"""Id of a share → direction. `isolated` and `template` contain `late`, but not as a word."""


def test_the_command_compares_two_runs_and_no_third(folder: Path, tmp_path: Path, bankllm) -> None:
    done = bankllm("report", "--compare", folder, sealed_run(tmp_path / "second", slower=2.0))
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "4 no detectable difference, 2 worse; 2 not comparable"
    other = bankllm("report", "--compare", folder, sealed_run(tmp_path / "other", data=TELLER77))
    assert other.returncode == 1
    assert "no record in common that was measured under the same conditions" in " ".join(other.stderr.split())
    assert "    first run: 93.0 % [88.6 – 95.8 %]\n    second run: 93.0 % [88.6 – 95.8 %]\n" in other.stdout
    refused = bankllm("report", folder, "--compare", folder, folder)
    assert refused.returncode == 2
    assert "--compare takes two runs and no other argument" in refused.stderr
