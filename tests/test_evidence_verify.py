"""verify: a sound run holds, and each kind of tampering is found and named."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.evidence.manifest import Manifest, finish
from bankllm.evidence.run import Run
from bankllm.evidence.verify import verify


@pytest.fixture
def sealed(run: Run) -> Path:
    run.write_rows("chat", ({"ms": i / 7} for i in range(1, 201)))
    run.measure("chat.p95_ms", "percentile", "chat", title="p95", unit="ms", column="ms", q=0.95)
    run.measure("chat.p99_ms", "percentile", "chat", title="p99", unit="ms", column="ms", q=0.99)
    run.not_measured("load.ab.p95_ms", title="ab", unit="ms", why="ab is not installed")
    manifest = Manifest(
        run_id="run",
        profile="smoke",
        command="bankllm run",
        started=datetime.now(UTC),
        git_commit=None,
        git_dirty=None,
        environment={},
    )
    finish(run.folder, manifest, complete=False)
    return run.folder


def test_a_sound_run_holds(sealed: Path) -> None:
    verdict = verify(sealed)
    assert verdict.holds
    assert {f.subject: f.status for f in verdict.findings} == {
        "chat.p95_ms": "ok",
        "chat.p99_ms": "invalid",
        "load.ab.p95_ms": "not measured",
    }
    assert verdict.summary() == "HOLDS: 1 ok, 1 invalid, 1 not measured, 0 does not hold"


def edit_record(folder: Path, index: int, **changes: object) -> None:
    path = folder / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[index] |= changes
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


TAMPERINGS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a rounded value": (lambda f: edit_record(f, 0, value=27.0), "chat.p95_ms", "value: recorded 27.0"),
    "a shifted interval": (lambda f: edit_record(f, 0, ci95=[26.0, 28.0]), "chat.p95_ms", "interval"),
    "another n": (lambda f: edit_record(f, 0, n=201), "chat.p95_ms", "n: recorded 201"),
    "a shifted percentile": (
        lambda f: edit_record(f, 0, parameters={"column": "ms", "q": 0.9}),
        "chat.p95_ms",
        "value: recorded",
    ),
    "a removed invalid mark": (
        lambda f: edit_record(f, 1, valid=True, invalid_because=None),
        "chat.p99_ms",
        "recorded as valid, but p99 needs",
    ),
    "a value that was not measured": (
        lambda f: edit_record(f, 2, value=12.0),
        "load.ab.p95_ms",
        "carries a value without a raw file",
    ),
    "a changed row": (
        lambda f: (f / "raw/01_chat.csv").write_text((f / "raw/01_chat.csv").read_text().replace("28.57", "18.57")),
        "chat.p95_ms",
        "was changed",
    ),
    "a missing raw file": (lambda f: (f / "raw/01_chat.csv").unlink(), "raw/01_chat.csv", "missing"),
    "a doubled record": (
        lambda f: (f / "records.jsonl").write_text((f / "records.jsonl").read_text() * 2),
        "chat.p95_ms",
        "more than once",
    ),
    "a changed unit": (lambda f: edit_record(f, 0, unit="s"), "records.jsonl", "expected sha256"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found_and_named(sealed: Path, name: str) -> None:
    tamper, subject, detail = TAMPERINGS[name]
    tamper(sealed)
    broken = [f for f in verify(sealed).findings if not f.holds]
    assert any(f.subject == subject and detail in f.detail for f in broken), broken


def test_an_unsealed_run_does_not_hold(sealed: Path) -> None:
    path = sealed / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": {}}))
    found = [f.detail for f in verify(sealed).findings if f.subject == "manifest.json"]
    assert found == ["the run did not finish; resume it"]


def test_a_manifest_may_not_name_files_outside(sealed: Path) -> None:
    path = sealed / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../../etc/passwd"] = "0"
    path.write_text(json.dumps(manifest))
    found = {f.subject: f.detail for f in verify(sealed).findings if not f.holds}
    assert "the seal is not that of its content" in found["manifest.json"]
    assert "outside the run's folder" in found["../../etc/passwd"]


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run: manifest\.json is missing"):
        verify(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    assert "cannot be read" in {f.subject: f.detail for f in verify(tmp_path).findings}["manifest.json"]
