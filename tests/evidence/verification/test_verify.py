"""verify: an unchanged run verifies, tampering is detected and named, and bad input gives a verdict."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.evidence.manifest import Manifest, read_manifest
from bankllm.evidence.recompute import sha256_file
from bankllm.evidence.run import Run
from bankllm.evidence.seal import UNSEALED, seal_of
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.evidence.verification.verify import verify
from tests.support.sealed_run import replace_text


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
    seal_run(run.folder, manifest, complete=False)
    return run.folder


def test_an_unchanged_run_verifies(sealed: Path) -> None:
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
        "has a value without a raw file",
    ),
    "a changed row": (
        lambda f: replace_text(f / "raw/01_chat.csv.gz", "28.57", "18.57"),
        "chat.p95_ms",
        "was changed",
    ),
    "a missing raw file": (lambda f: (f / "raw/01_chat.csv.gz").unlink(), "raw/01_chat.csv.gz", "missing"),
    "a doubled record": (
        lambda f: (f / "records.jsonl").write_text((f / "records.jsonl").read_text() * 2),
        "chat.p95_ms",
        "more than once",
    ),
    "a changed unit": (lambda f: edit_record(f, 0, unit="s"), "records.jsonl", "expected sha256"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_detected_and_named(sealed: Path, name: str) -> None:
    tamper, subject, detail = TAMPERINGS[name]
    tamper(sealed)
    broken = [f for f in verify(sealed).findings if not f.holds]
    assert any(f.subject == subject and detail in f.detail for f in broken), broken


def test_an_unsealed_run_does_not_verify(sealed: Path) -> None:
    path = sealed / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": {}}))
    found = [f.detail for f in verify(sealed).findings if f.subject == "manifest.json"]
    assert found == ["lists no files: the run did not finish. Continue with: bankllm run --resume run"]


def test_a_manifest_must_not_name_files_outside_the_folder(sealed: Path) -> None:
    path = sealed / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../../etc/passwd"] = "0"
    path.write_text(json.dumps(manifest))
    found = {f.subject: f.detail for f in verify(sealed).findings if not f.holds}
    assert "the seal does not match the content" in found["manifest.json"]
    assert "outside the run folder" in found["../../etc/passwd"]


def test_a_folder_without_a_manifest_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run: manifest\.json is missing"):
        verify(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    assert "cannot be read" in {f.subject: f.detail for f in verify(tmp_path).findings}["manifest.json"]


def reseal(folder: Path) -> None:
    seal_run(folder, read_manifest(folder), complete=False)


def faults(folder: Path) -> dict[str, str]:
    return {finding.subject: finding.detail for finding in verify(folder).findings if not finding.holds}


def test_a_newer_schema_version_is_reported(sealed: Path) -> None:
    edit_record(sealed, 0, schema_version=2)
    path = sealed / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 3}))
    found = faults(sealed)
    assert "written by a newer bankllm (schema version 2, supported: 1)" in found["records.jsonl, line 1"]
    assert "written by a newer bankllm (schema version 3, supported: 1)" in found["manifest.json"]


@pytest.mark.parametrize(
    "line", ["{", "[]", "null", "1e400", '"text"', "\x00", "[" * 100_000, '{"id": "a"}', '{"id": "a", "id": "b"}']
)
def test_an_unreadable_line_is_named_and_the_other_lines_are_checked(sealed: Path, line: str) -> None:
    path = sealed / "records.jsonl"
    path.write_text(path.read_text() + line + "\n")
    reseal_files(sealed)
    found = faults(sealed)
    assert found.keys() == {"records.jsonl, line 4"}
    assert "not a measurement record" in found["records.jsonl, line 4"]
    assert verify(sealed).count("ok") == 1


def reseal_files(folder: Path) -> None:
    """Seal the run again although `records.jsonl` has an unreadable line."""
    content = (folder / "records.jsonl").read_bytes()
    (folder / "records.jsonl").write_bytes(b"\n".join(content.splitlines()[:3]) + b"\n")
    reseal(folder)
    (folder / "records.jsonl").write_bytes(content)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["records.jsonl"] = sha256_file(folder / "records.jsonl")
    text = json.dumps(manifest | {"seal": UNSEALED}, indent=2)
    path.write_text(text.replace(UNSEALED, seal_of(text.encode(), UNSEALED)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: (f / "records.jsonl").write_bytes(b"\xff\xfe"),
        lambda f: (f / "records.jsonl").unlink(),
        lambda f: (f / "manifest.json").write_bytes(b"\xff"),
        lambda f: (f / "manifest.json").write_text("[]"),
        lambda f: (f / "manifest.json").write_text("[" * 100_000),
        lambda f: (f / "raw/01_chat.csv.gz").write_bytes(b"\xff\x00"),
        lambda f: (f / "raw/01_marks.csv").write_text("a\n1\n"),
        lambda f: (f / "raw/01_chat_summary.csv").write_text("generator_cpu_share\nx\n"),
        lambda f: ((f / "notebooks").mkdir(), (f / "notebooks/01_a.ipynb").write_text("[1]")),
        lambda f: ((f / "notebooks").mkdir(), (f / "notebooks/01_a.ipynb").write_text('{"cells": [{"outputs": 3}]}')),
        lambda f: (f / "RESULTS.html").write_bytes(b"<!doctype html><table></td>\xff"),
        lambda f: ((f / "raw/01_chat.csv.gz").unlink(), (f / "raw/01_chat.csv.gz").mkdir()),
        lambda f: os.mkfifo(f / "pipe"),
    ],
)
def test_damaged_files_give_a_verdict(sealed: Path, spoil: Callable[[Path], object]) -> None:
    spoil(sealed)
    assert not verify(sealed).holds


def test_huge_files_are_rejected_in_bounded_memory(sealed: Path) -> None:
    """Raw files of 1 GiB (sparse, or about 1 MB as gzip) with many rows or one endless line; a page of 128 MiB."""
    packed = sealed / "raw" / "01_rows.csv.gz"
    block = gzip.compress(b"0.25\n" * 2**21, 1)
    packed.write_bytes(gzip.compress(b"ms\n") + block * 100)
    with (sealed / "raw" / "01_zeros.csv").open("wb") as file:
        file.truncate(2**30)
    with (sealed / "RESULTS.md").open("wb") as file:
        file.truncate(2**27)
    records = [json.loads(line) for line in (sealed / "records.jsonl").read_text().splitlines()]
    (sealed / "raw" / "01_line.csv.gz").write_bytes(gzip.compress(bytes(2**24), 1) * 64)
    for name in ("01_rows.csv.gz", "01_line.csv.gz", "01_zeros.csv"):
        sha256 = sha256_file(sealed / "raw" / name) if name.endswith(".gz") else ""
        raw = {"path": f"raw/{name}", "sha256": sha256, "where": {}}
        records.append(records[0] | {"id": name, "raw": raw})
    (sealed / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    reseal(sealed)
    script = (
        "import json, re, sys\nfrom bankllm.evidence.verification.verify import verify\n"
        "found = {f.subject: f.detail for f in verify(sys.argv[1]).findings if not f.holds}\n"
        # Not ru_maxrss: it starts at the peak of the parent process.
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]\n"
        "print(json.dumps([found, int(peak)]))"
    )
    own = subprocess.run([sys.executable, "-I", sealed / "verify.py"], capture_output=True, text=True, check=False)
    done = subprocess.run([sys.executable, "-c", script, sealed], capture_output=True, text=True, check=True)
    found, peak_kib = json.loads(done.stdout)
    assert "has more than 1,000,000 rows" in found["01_rows.csv.gz"]
    assert "a line of more than 131,072 characters" in found["01_line.csv.gz"]
    assert "has 1024 MiB, more than the limit of 256 MiB" in found["01_zeros.csv"]
    assert "has 128 MiB" in found["RESULTS.md"]
    assert peak_kib < 300 * 1024
    assert own.returncode == 1
    assert "DOES NOT HOLD" in own.stdout


def test_verifying_loads_no_heavy_package_and_uses_no_network(sealed: Path) -> None:
    script = (
        "import sys\nfor name in ('torch', 'transformers', 'peft', 'pandas', 'numpy', 'matplotlib', 'httpx', 'locust',"
        " 'fastapi'):\n    sys.modules[name] = None\nimport socket\nsocket.socket.connect = None\n"
        "from bankllm.evidence.verification.verify import verify\nprint(verify(sys.argv[1]).summary())"
    )
    done = subprocess.run([sys.executable, "-c", script, sealed], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("HOLDS: 1 ok"), done.stderr
