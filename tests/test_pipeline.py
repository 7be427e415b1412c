"""The notebook pipeline with small test notebooks: strict parameters, reported failures, resumed runs."""

import re
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

from bankllm import cli, pipeline
from bankllm.errors import RunError, UsageError
from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.verification.verify import verify
from bankllm.util.progress import RunProgress
from tests.support.server_client import until, wait_until_gone

OPEN = "import bankllm\nrun = bankllm.open_run({name!r}, profile, run_dir)"


@pytest.fixture
def notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with notebooks of the same names as those of bankllm that record one number each."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for notebook in pipeline.notebooks():
        cells = [
            OPEN.format(name=notebook.name),
            "run.write_rows('rows', [{'x': 1}])",
            f"run.measure('t{notebook.name[:2]}.n', 'count', 'rows', title='n', unit='rows')",
        ]
        write(folder / notebook.path.name, cells, report=notebook.report)
    monkeypatch.setenv("BANKLLM_NOTEBOOKS", str(folder))
    return folder


def write(path: Path, cells: list[str], **declared: object) -> None:
    parameters = new_code_cell("profile = ''\nrun_dir = ''\nsize = 1", metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "bankllm": declared}
    section = new_markdown_cell("## A section")
    nbformat.write(new_notebook(cells=[parameters, section, *map(new_code_cell, cells)], metadata=metadata), path)


@pytest.mark.slow
def test_a_failed_notebook_is_reported_and_the_run_can_be_resumed(
    notebooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = notebooks / "02_load_testing.ipynb"
    write(broken, ["print('before')", "raise ValueError('the server is gone')"], title="Loads", seconds={"smoke": 120})
    progress: list[str] = []
    shown: list[str] = []

    class Recording(RunProgress):
        def write(self, output: str) -> None:
            super().write(output)
            shown.append(re.sub(r" \(\d+ s\)", "", self.text()))

    monkeypatch.setattr(pipeline, "RunProgress", Recording)
    monkeypatch.setattr(pipeline, "git_state", lambda: ("a" * 40, False))
    folder, manifest = pipeline.run("smoke", tmp_path / "out", only=["01", "02", "06"], report=progress.append)
    assert shown == ["02 Loads, cell 4 of 5, about 2 min left: before"]
    status = {entry.name[:2]: (entry.status, entry.error) for entry in manifest.notebooks}
    assert status["01"] == ("done", None)
    assert status["02"][0] == "failed"
    assert "ValueError: the server is gone" in str(status["02"][1])
    assert status["06"] == ("skipped", "needs 02_load_testing")
    assert any(line.startswith("06_evidence_report: skipped") for line in progress)
    kept = nbformat.read(folder / "notebooks" / "02_load_testing.ipynb", as_version=4)
    assert any("before" in str(cell.get("outputs")) for cell in kept.cells)
    assert not (tmp_path / "out" / "LATEST").exists()
    assert not verify(folder).holds

    write(broken, [OPEN.format(name="02_load_testing")])
    progress.clear()
    monkeypatch.setattr(pipeline, "git_state", lambda: ("b" * 40, True))
    again, manifest = pipeline.run("smoke", tmp_path / "out", resume=folder.name, report=progress.append)
    assert again == folder
    assert progress[0] == f"run {folder.name}, notebooks 01, 02, 03, 04, 05, 06"
    assert progress[1].startswith("01_local_validation: already done")
    assert {entry.status for entry in manifest.notebooks} == {"done"}
    assert [entry.git_commit for entry in manifest.notebooks] == [None, *["b" * 40] * 5]
    assert (manifest.git_commit, manifest.git_dirty) == ("a" * 40, True)
    assert manifest.complete
    assert (tmp_path / "out" / "LATEST").read_text() == f"{folder.name}\n"
    assert verify(folder).holds


@pytest.mark.slow
def test_a_run_that_was_killed_inside_a_notebook_can_be_resumed(notebooks: Path, tmp_path: Path) -> None:
    """The second kernel finds the files of the first one, which has ended: two kernels never share a folder."""
    wait = [
        "import os, time\nfrom pathlib import Path\nkept = Path(run_dir) / 'kept'\nfound = kept.exists()",
        "kept.write_text(str(os.getpid()))\nwhile not found:\n    time.sleep(0.1)",
    ]
    write(notebooks / "03_finetuning_benchmark.ipynb", [OPEN.format(name="03_finetuning_benchmark"), *wait])
    command = [sys.executable, "-m", "bankllm", "run", "--only", "01", "--only", "03", "--output", tmp_path / "out"]
    process = subprocess.Popen(command)
    try:
        until(lambda: [path for path in (tmp_path / "out").glob("*/kept") if path.read_text()])
    finally:
        process.kill()
        process.wait()
    (kept,) = (tmp_path / "out").glob("*/kept")
    kernel, folder = int(kept.read_text()), kept.parent
    (folder / "raw" / ".01_rows.csv.ab12cd_9").write_text("half of a f")  # as left by a killed `atomic_writer`
    assert [entry.name[:2] for entry in read_manifest(folder).notebooks] == ["01"]

    progress: list[str] = []
    again, manifest = pipeline.run(
        "smoke", tmp_path / "out", only=["01", "03"], resume=folder.name, report=progress.append
    )
    assert again == folder
    assert progress[1].startswith("01_local_validation: already done")
    assert [(entry.name[:2], entry.status) for entry in manifest.notebooks] == [("01", "done"), ("03", "done")]
    assert int(kept.read_text()) != kernel
    wait_until_gone(kernel)  # a kernel ends about a second after its runner was killed
    assert not [name for name in manifest.files if Path(name).name.startswith(".")]
    assert verify(folder).holds


@pytest.mark.slow
def test_an_interrupted_run_says_only_how_to_resume_it(notebooks: Path, tmp_path: Path) -> None:
    write(notebooks / "02_load_testing.ipynb", ["import time\nprint('a long load')\ntime.sleep(300)"])
    command = [sys.executable, "-m", "bankllm", "run", "--only", "01", "--only", "02", "--output", tmp_path / "out"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(
            lambda: [path for path in (tmp_path / "out").glob("*/notebooks/02*") if "a long load" in path.read_text()]
        )
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    (folder,) = (tmp_path / "out").glob("*-smoke")
    assert process.returncode == 130
    assert "01_local_validation: done" in output
    (line,) = errors.split("\n")[1:-1]
    assert line.startswith(f"The run {folder.name} was interrupted. Continue with: ")
    assert line.endswith(f"bankllm run --only=01 --only=02 --output={tmp_path / 'out'} --resume {folder.name}")


@pytest.mark.slow
def test_a_failed_benchmark_prints_how_to_resume_it(notebooks: Path, tmp_path: Path) -> None:
    name = "03_finetuning_benchmark"
    whole = (notebooks / f"{name}.ipynb").read_text()
    write(notebooks / f"{name}.ipynb", [OPEN.format(name=name), "raise ValueError('no room')"])
    output = ["--output", str(tmp_path / "out")]
    stopped = CliRunner().invoke(cli.app, ["benchmark", "--profile", "smoke", *output])
    (folder,) = (tmp_path / "out").iterdir()
    assert stopped.exit_code == 1
    assert "ValueError: no room" in stopped.stderr
    assert f"bankllm benchmark --output={tmp_path / 'out'} --resume {folder.name}" in stopped.stderr

    (notebooks / f"{name}.ipynb").write_text(whole)
    resumed = CliRunner().invoke(cli.app, ["benchmark", "--resume", folder.name, *output])
    assert resumed.exit_code == 0, resumed.output
    assert resumed.stdout.splitlines()[-1].split()[:3] == ["n", "1.00", "rows"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [folder.name]


@pytest.mark.slow
def test_parameters_reach_the_notebook_and_the_manifest_describes_the_run(notebooks: Path, tmp_path: Path) -> None:
    cells = [
        OPEN.format(name="01_local_validation") + "\nassert size == 7",
        "run.conditions |= {'dataset': 'd', 'train_rows': 3, 'model': 'm', 'model_sha256': 'f00'}",
        "run.not_measured('a.b', title='t', unit='ms', why='-')",
    ]
    write(notebooks / "01_local_validation.ipynb", cells)
    folder, manifest = pipeline.run("smoke", tmp_path / "out", only=["1"], parameters={"size": 7})
    assert [entry.status for entry in manifest.notebooks] == ["done"]
    assert not manifest.complete
    stored = read_manifest(folder)
    assert stored == manifest
    written = {"records.jsonl", "ro-crate-metadata.json", "verify.pyz"}
    assert stored.files.keys() == {"notebooks/01_local_validation.ipynb", *written}
    assert {"cpu", "cores", "python", "libraries"} <= stored.environment.keys()
    assert (stored.data, stored.models) == ({"d": {"train_rows": 3}}, {"m": "f00"})
    assert (stored.profile, stored.run_id) == ("smoke", folder.name)


def test_runs_started_in_the_same_second_get_separate_folders(notebooks: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for second in range(60):  # the folder names of this second and the next ones are taken
        now = datetime.now(UTC) + timedelta(seconds=second)
        (tmp_path / "out" / f"{now:%Y%m%dT%H%M%SZ}-smoke").mkdir()
    write(notebooks / "01_local_validation.ipynb", [OPEN.format(name="01_local_validation")])
    folder, manifest = pipeline.run("smoke", tmp_path / "out", only=["01"])
    assert folder.name.endswith("Z-smoke-2")
    assert manifest.run_id == folder.name


@pytest.mark.slow
def test_a_notebook_is_added_as_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file runs before the report, without a change elsewhere."""
    (first, *_, last), folder = pipeline.notebooks(), tmp_path / "notebooks"
    shutil.copytree(first.path.parent, folder)
    rows = "run.write_rows('rows', [{'x': 1}])\nrun.measure('example.n', 'count', 'rows', title='t', unit='rows')"
    write(folder / "07_example.ipynb", [OPEN.format(name="07_example"), rows], title="Example")
    monkeypatch.setenv("BANKLLM_NOTEBOOKS", str(folder))
    assert [notebook.title for notebook in pipeline.select(["7", "06"])] == ["Example", "Evidence report"]
    run, manifest = pipeline.run("smoke", tmp_path / "out", only=["07", last.name])
    assert {entry.name: entry.status for entry in manifest.notebooks} == {"07_example": "done", last.name: "done"}
    assert "example" in (run / "RESULTS.md").read_text()
    assert verify(run).holds


def test_a_parameter_reaches_the_notebooks_that_declare_it_and_one_must(notebooks: Path) -> None:
    path = notebooks / "02_load_testing.ipynb"
    write(path, [])
    path.write_text(path.read_text().replace("size = 1", "price = 0"))
    chosen = pipeline.select(["1", "2"])
    declared = pipeline.check_parameters(chosen, {"price": 3, "size": 2})
    assert declared == {
        "01_local_validation": {"profile", "run_dir", "size"},
        path.stem: {"profile", "run_dir", "price"},
    }
    expected = (
        r"No chosen notebook has a parameter pirce\. Their parameters are: 01_local_validation: profile, run_dir, size;"
    )
    with pytest.raises(UsageError, match=expected):
        pipeline.check_parameters(chosen, {"pirce": 3})


def test_notebooks_that_cannot_run_are_refused(
    notebooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat.write(new_notebook(), notebooks / "08_empty.ipynb")
    nbformat.write(
        new_notebook(cells=[new_code_cell("profile = ''", metadata={"tags": ["parameters"]})]),
        notebooks / "09_no_kernel.ipynb",
    )
    with pytest.raises(UsageError, match=r"08_empty has no parameter profile, run_dir\. Its parameters are: none\."):
        pipeline.run("smoke", tmp_path / "out", only=["08"])
    with pytest.raises(RunError, match=r"09_no_kernel\.ipynb names no kernel\. Run and save it"):
        pipeline.run("smoke", tmp_path / "out", only=["09"])
    write(notebooks / "03_another.ipynb", [])
    with pytest.raises(RunError, match=r"Another notebook has the number of 03_finetuning_benchmark\.ipynb"):
        pipeline.notebooks()
    monkeypatch.setenv("BANKLLM_NOTEBOOKS", str(tmp_path / "none"))
    with pytest.raises(RunError, match=r"No notebooks NN_name\.ipynb were found in .*Correct BANKLLM_NOTEBOOKS"):
        pipeline.run("smoke", tmp_path / "out")
