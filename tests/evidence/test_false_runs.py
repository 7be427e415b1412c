"""What verification cannot find: a run that is false but consistent. Reproduction finds most of them, a signature all.

`docs/guides/evidence.md`, *What this does not prove*, is about these runs.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bankllm.evidence.attestation.attest import attest, check_attestations
from bankllm.evidence.attestation.signing import new_key
from bankllm.evidence.compare import compare
from bankllm.evidence.reproduce import judge_repetition
from bankllm.evidence.verification.verify import verify
from tests.support.every_kind import ADAPTER, run_of_every_kind
from tests.support.forgery import EditRow, forge
from tests.support.sealed_run import ENVIRONMENT
from tests.support.tampering import Standalone, faults_in, standalone

RIGHT: EditRow = lambda row: {"predicted": row["actual"]}  # noqa: E731
CALLS: EditRow = lambda row: {"predicted": row["actual"], "tools_right": row["tools_expected"]}  # noqa: E731


def faster(column: str, factor: float) -> EditRow:
    return lambda row: {column: f"{float(row[column]) * factor:g}"}


ACCURACY, P95 = "training.lora_r8.accuracy", "chat.sequential.p95_ms"
FALSE: dict[str, tuple[dict[str, EditRow], dict[str, Any], str, str]] = {
    "every text is classified right": ({"raw/01_answers.csv.gz": RIGHT}, {}, ACCURACY, "outside"),
    "half of the latency": ({"raw/01_chat.csv.gz": faster("ms", 0.5)}, {}, P95, "outside"),
    "nine tenths of the latency": ({"raw/01_chat.csv.gz": faster("ms", 0.9)}, {}, P95, "within"),
    "the first word comes sooner": (
        {"raw/01_stream.csv.gz": faster("ttft_ms", 0.4)}, {}, "chat.stream.first.p50_ms", "outside"
    ),
    "every conversation passes": (
        {"raw/01_conversations.csv.gz": lambda row: {"passed": "yes"}}, {}, "chat.conversations.passed", "outside"
    ),
    "the server bears the load": (
        {"raw/02_curve.csv.gz": faster("latency_ms", 0.3)}, {}, "load.model.at_400.p50_ms", "outside"
    ),
    "every call is right": (
        {"raw/03_language_understand.csv.gz": CALLS}, {}, "language.lora.understand_exact", "outside"
    ),
    "every reply is grounded": (
        {"raw/03_language_word.csv.gz": lambda row: {"grounded": "yes"}}, {}, "language.lora.word_grounded", "outside"
    ),
    "the right article is found first": (
        {"raw/04_articles.csv.gz": lambda row: {"dense": "1 2"}}, {}, "vectors.articles.dense.recall_1", "outside"
    ),
    "the export equals the adapter": (
        {f"{ADAPTER}/raw/parity_merged.csv.gz": lambda row: {"exported": row["own"], "same": "yes"}}, {}, ACCURACY,
        "within",
    ),
    "other texts were asked": ({"raw/01_answers.csv.gz": lambda row: {"text_id": "7"}}, {}, ACCURACY, "within"),
    "another commit": ({}, {"git_commit": "e" * 40}, P95, "within"),
    "another machine": ({}, {"environment": ENVIRONMENT | {"cpu": "Slow CPU"}}, P95, "not comparable"),
}  # fmt: skip
"""What is false: the edited rows, the fields of the manifest, a record, and what a true repetition says of it."""


@pytest.fixture(scope="module")
def true_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that alice signed; her public key is in the folder beside it."""
    folder = run_of_every_kind(tmp_path_factory.mktemp("true") / "run")
    new_key(folder.parent / "alice.key")
    attest(folder, verify(folder), folder.parent / "alice.key")
    return folder


@pytest.fixture(scope="module")
def alone(true_run: Path) -> Iterator[Standalone]:
    with standalone(true_run / "verify.pyz") as findings:
        yield findings


@pytest.mark.parametrize("what", FALSE)
def test_a_false_but_consistent_run_verifies_and_a_repetition_judges_it(
    true_run: Path, tmp_path: Path, alone: Standalone, what: str
) -> None:
    rows, changes, id, outcome = FALSE[what]
    false = forge(Path(shutil.copytree(true_run, tmp_path / "run")), rows, **changes)
    assert faults_in([vars(finding) for finding in verify(false).findings]) == faults_in(alone(false)) == []
    assert {judged.id: judged.outcome for judged in judge_repetition(false, true_run)}[id] == outcome
    signed = {folder: check_attestations(folder, [true_run.parent / "alice.pub"], {}) for folder in (true_run, false)}
    assert [one.holds for one in signed[true_run]] == [True]
    assert [(one.holds, "but manifest.json of this run has" in one.detail) for one in signed[false]] == [(False, True)]


def test_the_comparison_with_a_true_run_finds_a_better_one(true_run: Path, tmp_path: Path) -> None:
    rows = {"raw/01_answers.csv.gz": RIGHT, "raw/01_chat.csv.gz": faster("ms", 0.5)}
    false = forge(Path(shutil.copytree(true_run, tmp_path / "run")), rows)
    assert {one.id: one.outcome for one in compare(true_run, false) if one.id in (ACCURACY, P95)} == {
        ACCURACY: "better",
        P95: "better",
    }
