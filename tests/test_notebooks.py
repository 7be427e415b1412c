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

from bankllm.pipeline import notebooks
from bankllm.settings import project_root

NOTEBOOKS = notebooks()
PATHS = [notebook.path for notebook in NOTEBOOKS]
CHECKED = "NBVAL_CHECK_OUTPUT"


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
        assert tagged[0].source.startswith('profile = ""')
        assert 'run_dir = ""' in tagged[0].source

    def test_it_contains_no_path_of_this_machine(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        for place in (project_root(), Path.home()):
            assert f"{place}/" not in text


def test_exactly_one_notebook_is_the_report_and_all_have_a_title_and_the_same_first_code_cell() -> None:
    assert [notebook.report for notebook in NOTEBOOKS] == [*[False] * (len(NOTEBOOKS) - 1), True]
    assert all(notebook.title for notebook in NOTEBOOKS)
    assert len({code_cells(path)[0].source for path in PATHS}) == 1


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


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        (None, ["pip install --quiet 'bankllm[offline] @ git+https://github.com/bankllm/bankllm'"]),
        ("/content/bankllm.whl", ["pip install --quiet '/content/bankllm.whl[offline]'"]),
        ("/content/drive/bankllm", ["mount /content/drive", "pip install --quiet '/content/drive/bankllm[offline]'"]),
    ],
)
def test_the_first_code_cell_installs_bankllm_on_colab(
    colab: list[str], monkeypatch: pytest.MonkeyPatch, source: str | None, calls: list[str]
) -> None:
    if source:
        monkeypatch.setenv("BANKLLM_SOURCE", source)
    exec(code_cells(PATHS[0])[0].source, {})
    assert colab == calls
    assert os.environ.pop("BANKLLM_PROFILE") == "full"


def test_stored_outputs_are_from_the_smoke_profile() -> None:
    for path in PATHS[:-1]:
        text = json.dumps([cell.outputs for cell in code_cells(path)])
        assert "teller77" in text
        assert "banking77 (" not in text
