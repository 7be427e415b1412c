"""The snippets of the README and the guides run unchanged; the commands and linked files of the README exist."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from bankllm.cli import app
from bankllm.datasets import load
from bankllm.loadtest.server_process import ServerProcess

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/guides/*.md"))}
SNIPPETS = {
    f"{name}-{number}": snippet
    for name, text in TEXTS.items()
    for number, snippet in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
}
INTENTS = load("teller77").label_names
EXPECTED = {
    "README-0": r"^Your account balances are: Current account £4,907\.60 \(£5,.* available .*\); Savings account £2",
    # One prediction: one of the five intents of the snippet, with a probability above chance.
    "README-1": rf"^\[Prediction\(intent='({'|'.join(INTENTS[:5])})', confidence=0\.[2-9]\d*, abstains=False\)\]$",
    "README-2": r"^the cash machine kept my card$",
    "evidence-0": r"\bmine\.p95_ms\b",
    "load-tests-0": r"^\(40, \{\}\)$",
    "memory-0": r"^Cards arrive within a week\.$",
    "memory-1": r"^Error CR-203 at Sainsbury's$",
    "serving-0": r"^\('recent_transactions', \('ledger:ACC0010\d',",
    "training-0": rf"^\[Prediction\(intent='({'|'.join(INTENTS[:4])})', confidence=",
    "your-bank-0": r"^125000$",
    "your-data-0": r"^my-data \(.*\): 2 train and 1 test texts, 2 intents$",
}
"""Snippet → what its last line returns."""


def test_every_snippet_has_an_expected_output() -> None:
    assert SNIPPETS.keys() == EXPECTED.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_a_snippet_runs(tmp_path: Path, name: str) -> None:
    *body, last = SNIPPETS[name].rstrip().splitlines()
    indent = re.match(r" *", last).group()  # type: ignore[union-attr]
    code = "\n".join([*body, f"{indent}print(({last.split('  #')[0].strip()}))"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(EXPECTED[name], done.stdout, re.MULTILINE), done.stdout


@pytest.mark.slow
def test_the_curl_command_gets_the_answer_that_is_shown(tmp_path: Path) -> None:
    command = re.search(r"^curl (?:.*\\\n)*.*$", README, re.MULTILINE)
    shown = re.search(r"```json\n(.*?)```", README, re.DOTALL)
    assert command
    assert shown
    with ServerProcess(store=tmp_path / "memory.sqlite", env={"BANKLLM_TODAY": "2026-11-29"}) as server:
        words = shlex.split(command[0].replace("\\\n", " ").replace("http://127.0.0.1:8000", server.url))
        done = subprocess.run([*words, "--silent"], capture_output=True, text=True, check=True)
    answer, expected = json.loads(done.stdout), json.loads(shown[1])
    assert answer.keys() == expected.keys()
    assert answer["latency_ms"].keys() == expected["latency_ms"].keys()
    assert answer.pop("confidence") == pytest.approx(expected.pop("confidence"), abs=1e-3)
    stable = answer.keys() - {"latency_ms", "conversation_id", "request_id"}
    assert {name: answer[name] for name in stable} == {name: expected[name] for name in stable}


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_every_command_in_the_docs_parses() -> None:
    pages = [README, *(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/**/*.md"))]
    lines = re.findall(r"^(?:\.venv/bin/)?bankllm (.+?)(?: +#.*)?$", "\n".join(pages), re.MULTILINE)
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    shown = set()
    for line in lines:
        command: Any = root
        words = shlex.split(line)
        while isinstance(command, TyperGroup):
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words)
        shown.add(line.split()[0])
    assert root.commands.keys() - shown == {"version"}
