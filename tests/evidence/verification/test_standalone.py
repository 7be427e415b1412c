"""`verify.pyz` of a run: byte for byte the package's own source, which needs only the standard library."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bankllm.evidence.verification import run_checks
from bankllm.evidence.verification.verify import verify
from tests.support import ROOT
from tests.support.sealed_run import sealed_run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_run(tmp_path_factory.mktemp("runs") / "run", excluded=True)


def start(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the verifier without site-packages and without the environment, from another folder."""
    command = [sys.executable, "-I", "-S", folder / "verify.pyz", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env={})


def test_another_process_builds_the_same_bytes_from_the_unchanged_modules(run_folder: Path) -> None:
    built = (run_folder / "verify.pyz").read_bytes()
    code = "import sys\nfrom bankllm.evidence.verification.standalone import standalone\n"
    again = [sys.executable, "-c", f"{code}sys.stdout.buffer.write(standalone())"]
    assert subprocess.run(again, capture_output=True, check=True, cwd=ROOT).stdout == built
    with zipfile.ZipFile(run_folder / "verify.pyz") as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {"bankllm/errors.py", "bankllm/evidence/statistics/classification.py"} <= set(names)
        for name in names:
            assert name == "__main__.py" or archive.read(name) == (ROOT / name).read_bytes()


def test_it_agrees_with_the_command_and_loads_no_other_package(run_folder: Path) -> None:
    done = start("--json", folder=run_folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["findings"] == [vars(finding) for finding in verify(run_folder).findings]
    assert start(folder=run_folder).stdout.splitlines()[-1] == verify(run_folder).summary()


def test_a_terminal_with_ascii_only_gets_the_verdict(run_folder: Path) -> None:
    command = [sys.executable, run_folder / "verify.pyz", run_folder]
    env = {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=env)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, verify(run_folder).summary())


def test_ctrl_c_ends_it_without_a_traceback(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_checks, "check_records", raise_interrupt)
    assert run_checks.main(run_folder, []) == 130


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_module_beside_it_is_not_imported(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "csv.py").write_text("raise SystemExit('all holds')")
    (tmp_path / "verify.pyz").write_bytes((run_folder / "verify.pyz").read_bytes())
    command = [sys.executable, tmp_path / "verify.pyz", run_folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == verify(run_folder).summary()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--fast",), 2, "usage: python3 verify.pyz [RUN_DIR] [--json]"),
        (("/nowhere",), 1, "/nowhere is not a run: manifest.json is missing"),
        (("x" * 5000,), 1, "File name too long"),
    ],
)
def test_wrong_usage_and_a_missing_manifest_are_reported(
    run_folder: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = start(*arguments, folder=run_folder)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
