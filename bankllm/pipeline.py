"""Execute the notebooks in order with papermill and collect everything they produce in one run folder.

The folder holds the executed notebooks, the records with their raw rows, the report and a sealed manifest, so that
anybody can verify the run. Command: `bankllm run --profile quick`. An interrupted run continues with
`bankllm run --resume RUN_ID`.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bankllm.errors import RunError, UsageError
from bankllm.evidence.manifest import Manifest, NotebookRun, read_manifest, write_manifest
from bankllm.evidence.records import write_text
from bankllm.evidence.share.ro_crate import write_crate
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.profiles import Profile, get_profile
from bankllm.settings import project_root

NOTEBOOKS = (
    "01_local_validation",
    "02_load_testing",
    "03_finetuning_benchmark",
    "04_vector_search",
    "05_metrics_collection",
    "06_evidence_report",
)
REPORT_NOTEBOOK = NOTEBOOKS[-1]
"""Runs only if all other notebooks of the run are done."""
KERNEL = "python3"
Report = Callable[[str], None]
"""Receives one line of progress, e.g. `typer.echo`."""


def notebook_folder() -> Path:
    """Folder of the notebooks: next to the package in a checkout, inside the package if installed from a wheel.

    Raises `RunError` if neither folder has them.
    """
    package = Path(__file__).resolve().parent
    candidates = (package.parent / "notebooks", package / "notebooks")
    for folder in candidates:
        if (folder / f"{NOTEBOOKS[0]}.ipynb").exists():
            return folder
    raise RunError(
        f"The notebooks were not found. Expected them in {candidates[0]} or {candidates[1]}. Reinstall bankllm."
    )


def select(only: Sequence[str]) -> tuple[str, ...]:
    """Notebook names for the values of `--only`, such as `3`, `03` or `03_finetuning_benchmark`.

    The result is in the order of `NOTEBOOKS`; an empty `only` selects all. Raises `UsageError` for an unknown notebook.
    """
    if not only:
        return NOTEBOOKS
    chosen = set()
    for wanted in only:
        found = {name for name in NOTEBOOKS if wanted in (name, name[:2], name[:2].lstrip("0"))}
        if not found:
            raise UsageError(f"Unknown notebook {wanted!r}. Expected one of: {', '.join(NOTEBOOKS)}.")
        chosen |= found
    return tuple(name for name in NOTEBOOKS if name in chosen)


def run(
    profile: str,
    output: Path,
    *,
    only: Sequence[str] = (),
    resume: str | None = None,
    parameters: dict[str, Any] | None = None,
    report: Report = lambda line: None,
) -> tuple[Path, Manifest]:
    """Execute the notebooks of `only` (all if empty) into `output/<run-id>`; returns that folder and its manifest.

    If a notebook fails, the following ones still run, except the report, which is skipped; the manifest records the
    status and the error of each notebook. With `resume`, the run with that id continues: its profile is used, and
    notebooks that are done are not executed again, except the report if another notebook was. `parameters` are passed
    to every chosen notebook, which must declare them in its `parameters` cell. `report` receives the progress lines.

    When all chosen notebooks are done, the run is sealed; when all six are, the file `output/LATEST` names it.
    Raises `UsageError` for an unknown profile, notebook or parameter, and `RunError` if the folder is unusable.
    """
    chosen = select(only)
    check_parameters(chosen, parameters or {})
    if resume is None:
        settings = get_profile(profile)
        folder, manifest = _start(settings, output)
    else:
        folder = output / resume
        manifest = replace(read_manifest(folder), complete=False, finished=None, files={}, seal=None, renderer=None)
        settings = get_profile(manifest.profile)
        _remove_half_written(folder)
        write_manifest(folder, manifest)
    report(f"run {folder.name}, notebooks {', '.join(name[:2] for name in chosen)}")
    done = {entry.name: entry for entry in manifest.notebooks if entry.status == "done"}
    anything_executed = False
    for name in chosen:
        if name in done and not (name == REPORT_NOTEBOOK and anything_executed):
            report(f"{name}: already done, {done[name].seconds:.1f} s")
            continue
        anything_executed = True
        entry = _execute_or_skip(name, folder, settings, manifest, parameters or {}, report)
        others = [other for other in manifest.notebooks if other.name != name]
        manifest = replace(manifest, notebooks=sorted([*others, entry], key=lambda run: run.name))
        write_manifest(folder, manifest)
    statuses = {entry.name: entry.status for entry in manifest.notebooks}
    if all(statuses.get(name) == "done" for name in chosen):
        if write_crate(folder, manifest) is None:
            report("No RO-Crate (ro-crate-metadata.json) was written. It needs: pip install 'bankllm[share]'")
        manifest = seal_run(folder, manifest, complete=all(statuses.get(name) == "done" for name in NOTEBOOKS))
    if manifest.complete:
        write_text(output / "LATEST", folder.name + "\n")
    return folder, manifest


def check_parameters(notebooks: Sequence[str], parameters: dict[str, Any]) -> None:
    """Raise `UsageError` for a parameter that one of the notebooks does not declare.

    Without this check papermill prints only a warning and runs the notebook with its default values.
    """
    import papermill

    for name in notebooks:
        declared = papermill.inspect_notebook(str(notebook_folder() / f"{name}.ipynb"))
        unknown = sorted(set(parameters) - set(declared))
        if unknown:
            raise UsageError(
                f"{name} has no parameter {', '.join(unknown)}. Its parameters are: {', '.join(declared)}."
            )


def _start(profile: Profile, output: Path) -> tuple[Path, Manifest]:
    from bankllm.evidence.environment import environment_info

    started = datetime.now(UTC)
    folder = _make_folder(output, f"{started:%Y%m%dT%H%M%SZ}-{profile.name}")
    commit, dirty = git_state()
    manifest = Manifest(
        run_id=folder.name,
        profile=profile.name,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        started=started,
        git_commit=commit,
        git_dirty=dirty,
        environment=environment_info(),
    )
    write_manifest(folder, manifest)
    return folder, manifest


def _make_folder(output: Path, run_id: str) -> Path:
    """Create the run folder. If the name is taken (two runs started in the same second), append `-2`, `-3`, …"""
    for name in (run_id, *(f"{run_id}-{n}" for n in range(2, 100))):
        folder = output / name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not output.is_dir():
                break
            continue
        except OSError as error:
            raise RunError(
                f"No run can be written to {output} ({os.strerror(error.errno or 0)}). "
                "Expected a writable folder. Choose another one with --output."
            ) from error
        return folder
    raise RunError(
        f"No run can be written to {output}: it is not a folder, or it already holds 99 runs of this second. "
        "Choose another folder with --output."
    )


def _remove_half_written(folder: Path) -> None:
    """Remove the temporary files of `atomic_writer` that a killed run left behind.

    Otherwise the manifest would list them as evidence.
    """
    for path in folder.rglob(".*.????????"):
        if path.is_file():
            path.unlink()


def git_state() -> tuple[str | None, bool | None]:
    """The current commit, and whether the working tree differs from it; (None, None) outside a git checkout."""
    try:
        commit, status = (
            subprocess.run(["git", *arguments], cwd=project_root(), capture_output=True, text=True, check=True).stdout
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit.strip(), bool(status.strip())


def _execute_or_skip(
    name: str, folder: Path, profile: Profile, manifest: Manifest, parameters: dict[str, Any], report: Report
) -> NotebookRun:
    failed = [entry.name for entry in manifest.notebooks if entry.status != "done" and entry.name != name]
    if name == REPORT_NOTEBOOK and failed:
        report(f"{name}: skipped, because it needs {', '.join(failed)}")
        return NotebookRun(name=name, status="skipped", seconds=0, error=f"needs {', '.join(failed)}")
    report(f"{name}: running …")
    started = time.monotonic()
    error = _execute(name, folder, profile, parameters)
    seconds = time.monotonic() - started
    report(f"{name}: {'failed' if error else 'done'}, {seconds:.1f} s" + (f"\n  {error}" if error else ""))
    return NotebookRun(name=name, status="failed" if error else "done", seconds=round(seconds, 2), error=error)


def _execute(name: str, folder: Path, profile: Profile, parameters: dict[str, Any]) -> str | None:
    """Execute one notebook and write the executed copy to the run folder, even if a cell fails.

    Returns a description of the error, or None if the notebook succeeded.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    target = folder / "notebooks" / f"{name}.ipynb"
    target.parent.mkdir(exist_ok=True)
    try:
        with _quiet_papermill():
            papermill.execute_notebook(
                str(notebook_folder() / f"{name}.ipynb"),
                str(target),
                parameters={**parameters, "profile": profile.name, "run_dir": str(folder.resolve())},
                kernel_name=KERNEL,
                execution_timeout=profile.cell_timeout_s,
                progress_bar=False,
                config=_kernel_config(),
            )
    except PapermillExecutionError as error:
        return f"cell {error.cell_index} of {target.name}: {error.ename}: {error.evalue}"
    except CellTimeoutError:
        return f"{target.name}: a cell ran longer than {profile.cell_timeout_s} s and was stopped"
    except DeadKernelError:
        return f"{target.name}: the kernel process ended unexpectedly (out of memory, or killed)"
    except OSError as error:
        target.unlink(missing_ok=True)  # an incomplete notebook cannot be opened
        return f"{target.name} cannot be written ({os.strerror(error.errno or 0)})"
    return None


def _kernel_config() -> Any:
    """Encrypt the sockets of the kernel if jupyter_client supports it.

    Otherwise other users of the machine could read or control the kernel over its TCP ports.
    """
    from traitlets.config import Config

    return Config({"KernelManager": {"transport_encryption": "auto"}})


@contextlib.contextmanager
def _quiet_papermill() -> Iterator[None]:
    """Suppress the log lines and warnings of papermill.

    They repeat the progress lines and warn about papermill's own internals.
    """
    import logging
    import warnings

    logger = logging.getLogger("papermill")
    before = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(before)
