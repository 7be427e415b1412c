"""The snippets of the README run unchanged, and its commands and linked files exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bankllm.datasets import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
EXPECTED = [
    # One prediction: one of the five intents of the snippet, with a probability above chance.
    rf"^\[Prediction\(intent='({'|'.join(load('teller77').label_names[:5])})', "
    r"confidence=0\.[2-9]\d*, abstains=False\)\]$",
    r"^the cash machine kept my card$",
    r"\bmine\.p95_ms\b",
]


def test_every_snippet_has_an_expected_output() -> None:
    assert len(SNIPPETS) == len(EXPECTED)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(tmp_path: Path, number: int) -> None:
    *body, last = SNIPPETS[number].rstrip().splitlines()
    indent = re.match(r" *", last).group()  # type: ignore[union-attr]
    code = "\n".join([*body, f"{indent}print({last.split('  #')[0].strip()})"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(EXPECTED[number], done.stdout), done.stdout


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_readme_shows_every_command() -> None:
    from typer.main import get_command

    from bankllm.cli import app

    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    shown = set(re.findall(r"^(?:\.venv/bin/)?bankllm (\w+)", README, re.MULTILINE))
    assert shown <= commands
    assert commands - shown == {"version"}
