"""A published copy verifies on its own, contains no weights and no repeated table, and lists the omitted files."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bankllm.errors import RunError
from bankllm.evidence.manifest import read_manifest, write_manifest
from bankllm.evidence.share import publish as module
from bankllm.evidence.share.publish import publish
from bankllm.evidence.share.ro_crate import write_crate
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.evidence.verification.verify import verify
from bankllm.util.file_hash import sha256_file
from tests.support.sealed_run import sealed_run

WEIGHTS, ROWS = "adapters/lora_r8/adapter_model.safetensors", "adapters/lora_r8/raw/predictions.csv"
INTERRUPTED = "adapters/lora_r16.checkpoint"


def seal_again(folder: Path, **changes: Any) -> None:
    manifest = replace(read_manifest(folder), **changes)
    write_manifest(folder, manifest)
    write_crate(folder, manifest)
    seal_run(folder, manifest, complete=manifest.complete)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = sealed_run(tmp_path / "runs" / "one")
    for name in (WEIGHTS, ROWS, INTERRUPTED, "adapters/lora_r8/README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("a file of a training")
    seal_again(folder)
    return folder


def test_the_copy_verifies_and_lists_the_omitted_files(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "reference"
    publish(run, target)
    assert verify(target).holds
    command = [sys.executable, "-I", target / "verify.pyz"]
    standalone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert standalone.returncode == 0, standalone.stdout
    assert read_manifest(target).left_out == {name: sha256_file(run / name) for name in (INTERRUPTED, ROWS, WEIGHTS)}
    assert [path.name for path in (target / "adapters/lora_r8").rglob("*") if path.is_file()] == ["README.md"]
    parts = json.loads((target / "ro-crate-metadata.json").read_text())["@graph"]
    assert WEIGHTS not in {part["@id"] for part in parts}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_copy_can_be_replaced_and_copied_again_and_an_added_file_is_found(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "reference"
    publish(run, target)
    (target / "stray.txt").write_text("x")
    publish(run, target)
    assert not (target / "stray.txt").exists()
    publish(target, tmp_path / "again")
    assert read_manifest(tmp_path / "again").left_out.keys() == {INTERRUPTED, ROWS, WEIGHTS}
    (target / WEIGHTS).write_bytes(b"weights")
    [found] = [finding for finding in verify(target).findings if not finding.holds]
    assert found.subject == WEIGHTS


def test_an_unsuitable_run_or_target_is_refused_and_nothing_changes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "notes"
    other.mkdir()
    with pytest.raises(RunError, match="notes exists and is not a run"):
        publish(run, other)
    for target in (run, run / "copy", run.parent):
        with pytest.raises(RunError, match="are the same folder, or one contains the other"):
            publish(run, target)
    assert verify(run).holds
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(RunError, match="Expected at most 0 MiB"):
        publish(run, tmp_path / "reference")
    seal_again(run, git_dirty=True)
    with pytest.raises(RunError, match="was made with uncommitted changes"):
        publish(run, tmp_path / "reference")
    (run / "records.jsonl").write_text("")
    with pytest.raises(RunError, match="DOES NOT HOLD"):
        publish(run, tmp_path / "reference")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "runs"]


def test_the_copy_contains_no_path_of_this_machine(run: Path, tmp_path: Path) -> None:
    location = str(run)
    papermill = {"input_path": f"{location}/in/01.ipynb", "output_path": f"{location}/notebooks/01.ipynb"}
    cell = {"cell_type": "code", "execution_count": 1, "id": "p", "outputs": []}
    cell |= {"metadata": {"tags": ["injected-parameters"]}, "source": ["# Parameters\n", f'run_dir = "{location}"\n']}
    document = {"cells": [cell], "nbformat": 4, "nbformat_minor": 5}
    document["metadata"] = {"papermill": {**papermill, "parameters": {"profile": "smoke", "run_dir": location}}}
    (run / "notebooks" / "01.ipynb").write_text(json.dumps(document))
    seal_again(run)
    publish(run, tmp_path / "reference")
    copied = (tmp_path / "reference/notebooks/01.ipynb").read_text()
    assert location not in copied
    assert 'run_dir = \\"..\\"' in copied
    assert json.loads(copied)["metadata"]["papermill"]["input_path"] == "01.ipynb"
    assert verify(tmp_path / "reference").holds
