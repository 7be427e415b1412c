"""Placeholders and unbound numbers in Markdown, notebooks and LaTeX are found, each with a suggested record."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.evidence.records import read_records
from bankllm.evidence.report.placeholders import ScanFinding, scan
from bankllm.evidence.run import Run
from tests.support.sealed_run import fill, sealed_run

OLD = """**Old (wrong):** Fine-tuned a language model with LoRA to ~92% accuracy on Banking77, p95 latency XXX ms, \
throughput of <number> requests/s, training time TBD.
"""
NEW = """**New (real):** Fine-tuned a language model with LoRA to \
<!-- claim: training.lora_r8.accuracy -->93.0 %<!-- /claim --> accuracy on Banking77, \
p95 latency <!-- claim: chat.sequential.p95_ms -->190.0 ms<!-- /claim -->, \
throughput of <!-- claim: load.ab.throughput -->84.2 requests/s<!-- /claim -->, \
training time <!-- claim: training.lora_r8.train_s -->160.5 s<!-- /claim -->.
"""


@pytest.fixture
def records(run: Run):
    fill(run)
    return read_records(run.folder)


def findings(file: Path, records) -> list[tuple[str, str, str | None]]:
    return [
        (finding.kind, finding.text, finding.record.id if finding.record else None) for finding in scan(file, records)
    ]


def test_an_unbound_resume_sentence_is_reported_and_a_bound_one_passes(tmp_path: Path, records) -> None:
    file = tmp_path / "resume.md"
    file.write_text(OLD)
    assert findings(file, records) == [
        ("unbound number", "~92%", "training.lora_r8.accuracy"),
        ("placeholder", "XXX", "chat.sequential.p95_ms"),
        ("placeholder", "<number>", "load.ab.throughput"),
        ("placeholder", "TBD", "training.lora_r8.train_s"),
    ]
    file.write_text(NEW)
    assert findings(file, records) == []


@pytest.mark.parametrize(
    ("text", "placeholder"),
    [
        ("TODO: numbers", "TODO"),
        ("accuracy of [X]%", "[X]"),
        ("about ~N requests", "~N"),
        ("latency: N/A", "N/A"),
        ("hit rate XX%", "XX"),
        ("N.N% better", "N.N"),
        ("cut costs by ____", "____"),
        ("{{ accuracy }} reached", "{{ accuracy }}"),
        ("[insert figure here]", "[insert figure here]"),
        ("Lorem ipsum dolor", "Lorem ipsum"),
        ("???", "???"),
    ],
)
def test_a_placeholder_is_found(tmp_path: Path, text: str, placeholder: str) -> None:
    file = tmp_path / "page.txt"
    file.write_text(f"first\n{text}\n")
    assert list(map(str, scan(file, []))) == [f"{file}:2: placeholder {placeholder!r} -> no matching record in the run"]


@pytest.mark.parametrize("text", ["[X](page.md)", "`TODO`", "XL size, 5 x 5, N = 3", "$XXX", "a<b>c", "methodTODO"])
def test_other_text_is_not_reported_as_a_placeholder(tmp_path: Path, text: str) -> None:
    file = tmp_path / "page.md"
    file.write_text(text)
    assert scan(file, []) == []


def test_a_latex_resume_is_read(tmp_path: Path, records) -> None:
    file = tmp_path / "resume.tex"
    file.write_text("\\item LoRA to 92\\% accuracy, weights of [X] MB\n")
    assert findings(file, records) == [
        ("unbound number", "92 %", "training.lora_r8.accuracy"),
        ("placeholder", "[X]", "training.lora_r8.adapter"),
    ]


def test_a_notebook_is_read_cell_by_cell(tmp_path: Path, records) -> None:
    file = tmp_path / "notebook.ipynb"
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "p95 of 487 ms"]},
        {"cell_type": "code", "source": ["limit = '250 ms'  # TODO measure\n"], "outputs": []},
    ]
    file.write_text(json.dumps({"cells": cells}))
    by_id = {record.id: record for record in records}
    assert scan(file, records) == [
        ScanFinding(f"{file}:cell 1:2", "487 ms", "unbound number", by_id["chat.sequential.p95_ms"]),
        ScanFinding(f"{file}:cell 2:1", "TODO", "placeholder", None),
    ]


def test_a_suggestion_never_has_another_percentile(tmp_path: Path, records) -> None:
    file = tmp_path / "page.md"
    file.write_text("chat latency p99 XXX ms\n")
    assert findings(file, records) == [("placeholder", "XXX", None)]


@pytest.mark.parametrize("content", ["[]", "{", '{"cells": [1]}'])
def test_an_invalid_notebook_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "broken.ipynb"
    file.write_text(content)
    with pytest.raises(RunError, match="is not a notebook"):
        scan(file, [])


def test_the_command_prints_and_exits_with_1(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path / "run")
    file = tmp_path / "resume.md"
    file.write_text(OLD)
    command = [sys.executable, "-m", "bankllm", "claims", "--scan", str(file), "--run", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"{file}:1: placeholder 'XXX' -> chat.sequential.p95_ms = 190.0 ms" in done.stdout.splitlines()
