"""Numbers that look measured and placeholders are found, each with a suggested record; claims and code are not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.evidence.records import Record, read_records
from bankllm.evidence.run import Run
from bankllm.evidence.unbound_numbers import find_unbound_numbers, scan, unbound_numbers_in_results
from tests.support.sealed_run import fill, sealed_run

OLD = """**Old (wrong):** Fine-tuned a language model with LoRA to ~92% accuracy on Banking77, p95 latency XXX ms, \
throughput of <number> requests/s, training time TBD.
"""
NEW = """**New (real):** Fine-tuned a language model with LoRA to \
<!-- claim: training.lora_r8.accuracy -->93.0 %<!-- /claim --> accuracy on Banking77, \
p95 latency <!-- claim: chat.sequential.p95_ms -->190.0 ms<!-- /claim -->, \
throughput of <!-- claim: load.ab.throughput -->84.2 requests/s<!-- /claim -->.
"""


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        ("p95 of 487 ms", "487 ms", "ms"),
        ("it took 1.5s", "1.5s", "s"),
        ("~92% accuracy", "~92%", "share"),
        ("1,243 requests/s", "1,243 requests/s", "requests/s"),
        ("1243 req/s", "1243 req/s", "requests/s"),
        ("9.2 MiB resident", "9.2 MiB", "bytes"),
        ("3.2× faster", "3.2×", "ratio"),
        ("1–2 s a chat", "1–2 s", "s"),
        (r"92\% in LaTeX", "92 %", "share"),
        ("| a | 12.3 ms |", "12.3 ms", "ms"),
    ],
)
def test_a_number_is_found(text: str, number: str, unit: str) -> None:
    assert [(found.text, found.unit) for found in find_unbound_numbers(text)] == [(number, unit)]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- claim: a.b -->12.3 ms<!-- /claim -->",
        '<data class="claim" value="a.b">12.3 ms</data>',
        r"\claim{a.b}{12.3 ms}",
        "a 95 % interval, 99 % confidence, the 95 % CI",
        "`sleep 5 s` and\n```\n100 ms\n```",
        "version 3.11, 77 intents, 15,000 messages, item 2.",
        "15,000 × 384 floats, 5 x 5",
        "https://example.org/10%20ms",
        "<!-- not measured here: the vendor --> expected: 100 ms",
        "<!-- not measured here: the vendor -->\n\n| expected |\n| 100 ms |\n| 1 s |",
    ],
)
def test_claims_code_and_conventions_are_not_found(text: str) -> None:
    assert list(find_unbound_numbers(text)) == []


def test_the_mark_applies_to_one_block_only() -> None:
    text = "<!-- not measured here: the vendor -->\n\n100 ms\n\n200 ms"
    assert [(number.line, number.text) for number in find_unbound_numbers(text)] == [(5, "200 ms")]


def test_results_sections_end_at_the_next_heading_of_their_level() -> None:
    text = (
        "# Tool\n1 ms\n## Results\n2 ms\n### On a GPU\n3 ms\n## Setup\n4 ms\n<!-- results -->\n5 ms\n"
        "<!-- /results -->\n6 ms\n## Performance\n```\n# not a heading\n```\n7 ms\n"
    )
    assert [number.text for number in unbound_numbers_in_results(text)] == ["2 ms", "3 ms", "5 ms", "7 ms"]


@pytest.fixture
def records(run: Run) -> list[Record]:
    fill(run)
    return read_records(run.folder)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "resume.md",
            OLD,
            [
                "1: unbound number '~92%' -> training.lora_r8.accuracy = 93.0 %",
                "1: placeholder 'XXX' -> chat.sequential.p95_ms = 190.0 ms",
                "1: placeholder '<number>' -> load.ab.throughput = 84.2 requests/s",
                "1: placeholder 'TBD' -> training.lora_r8.train_s = 160.5 s",
            ],
        ),
        ("resume.md", NEW, []),
        (
            "resume.tex",
            "\\item LoRA to 92\\% accuracy, weights of [X] MB\n",
            [
                "1: unbound number '92 %' -> training.lora_r8.accuracy = 93.0 %",
                "1: placeholder '[X]' -> training.lora_r8.adapter = 315.0 KiB",
            ],
        ),
        ("percentile.md", "chat latency p99 XXX ms\n", ["1: placeholder 'XXX' -> no matching record in the run"]),
        (
            "notebook.ipynb",
            json.dumps(
                {
                    "cells": [
                        {"cell_type": "markdown", "source": ["# Title\n", "p95 of 487 ms"]},
                        {"cell_type": "code", "source": ["limit = '250 ms'  # TODO measure\n"], "outputs": []},
                    ]
                }
            ),
            [
                "cell 1:2: unbound number '487 ms' -> chat.sequential.p95_ms = 190.0 ms",
                "cell 2:1: placeholder 'TODO' -> no matching record in the run",
            ],
        ),
    ],
)
def test_a_document_is_scanned(
    tmp_path: Path, records: list[Record], name: str, content: str, expected: list[str]
) -> None:
    file = tmp_path / name
    file.write_text(content)
    assert scan(file, records) == [f"{file}:{line}" for line in expected]


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
        *((text, None) for text in ("[X](page.md)", "`TODO`", "XL size, 5 x 5, N = 3", "$XXX", "a<b>c", "methodTODO")),
    ],
)
def test_a_placeholder_is_found_and_other_text_is_not(tmp_path: Path, text: str, placeholder: str | None) -> None:
    file = tmp_path / "page.txt"
    file.write_text(f"first\n{text}\n")
    expected = [f"{file}:2: placeholder {placeholder!r} -> no matching record in the run"] if placeholder else []
    assert scan(file, []) == expected


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
