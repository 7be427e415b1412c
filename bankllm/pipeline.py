"""Execute the notebooks in order with papermill and collect everything they produce in one run folder.

The folder holds the executed notebooks, the records with their raw rows, the report and a sealed manifest, so that
anybody can verify the run.
"""

import contextlib
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from bankllm.errors import RunError, UsageError
from bankllm.evidence.environment import environment_info, git_state
from bankllm.evidence.manifest import Manifest, NotebookRun, read_manifest, write_manifest
from bankllm.evidence.share.ro_crate import write_crate
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.profiles import Profile, get_profile
from bankllm.settings import get_settings
from bankllm.util.atomic_files import check_writable, write_errors, write_text
from bankllm.util.progress import RunProgress
from bankllm.util.writable_folders import ensure_writable

Report = Callable[[str], None]
LATEST = "LATEST"
"""File in the folder of the runs that names the newest complete run."""
KERNEL_FOLDERS = {
    "IPYTHONDIR": "~/.ipython",
    "JUPYTER_RUNTIME_DIR": "~/.local/share/jupyter/runtime",
    "MPLCONFIGDIR": "~/.config/matplotlib",
}
"""Folders in which a kernel and the libraries of its notebook write."""


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a run, which `folder` keeps and `resume` can continue."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"The run {folder.name} was interrupted.")
        self.folder = folder


@dataclass(frozen=True)
class Notebook:
    """A file `NN_name.ipynb`. The other fields are the key `bankllm` of the notebook's metadata."""

    path: Path
    title: str = ""
    report: bool = False
    """Whether it runs last, and only if all other notebooks of the run are done."""
    needs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Executable of an external tool → `for`: what it is used for, `install`: the package that has it."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Profile → seconds that the notebook takes on two idle cores."""

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def label(self) -> str:
        """Number and title: `03 Fine-tuning`."""
        return f"{self.name[:2]} {self.title}".rstrip()


def notebooks() -> list[Notebook]:
    """The notebooks of `BANKLLM_NOTEBOOKS`, the checkout or the wheel, by number, and the report last.

    Raises `RunError` if there is none, or if two notebooks have the same number.
    """
    package = Path(__file__).resolve().parent
    own = get_settings().notebooks
    folders = (own,) if own else (package.parent / "notebooks", package / "notebooks")
    paths = next((found for folder in folders if (found := sorted(folder.glob("[0-9][0-9]_*.ipynb")))), [])
    if not paths:
        raise RunError(
            f"No notebooks NN_name.ipynb were found in {' or '.join(map(str, folders))}. Correct BANKLLM_NOTEBOOKS, or "
            "reinstall bankllm."
        )
    if same := [two.name for one, two in pairwise(paths) if one.name[:2] == two.name[:2]]:
        raise RunError(f"Another notebook has the number of {same[0]}. Each needs its own; rename one of them.")
    declared = [json.loads(path.read_text(encoding="utf-8"))["metadata"].get("bankllm", {}) for path in paths]
    numbered = [Notebook(path, **fields) for path, fields in zip(paths, declared, strict=True)]
    return sorted(numbered, key=lambda notebook: (notebook.report, notebook.name))


def select(only: Sequence[str]) -> list[Notebook]:
    """The notebooks for the values of `--only`, such as `3`, `03` or `03_finetuning_benchmark`; all if it is empty.

    Raises `UsageError` for an unknown notebook.
    """
    existing = notebooks()
    names = {notebook.name: {notebook.name, notebook.name[:2], notebook.name[:2].lstrip("0")} for notebook in existing}
    for wanted in only:
        if not any(wanted in accepted for accepted in names.values()):
            raise UsageError(f"Unknown notebook {wanted!r}. Expected one of: {', '.join(names)}.")
    return [notebook for notebook in existing if not only or names[notebook.name] & set(only)]


def run(
    profile: str,
    output: Path,
    *,
    only: Sequence[str] = (),
    resume: str | None = None,
    parameters: dict[str, Any] | None = None,
    report: Report = lambda line: None,
    watch: Callable[[Callable[[], str]], None] = lambda text: None,
) -> tuple[Path, Manifest]:
    """Execute the notebooks of `only` (all if empty) into `output/<run-id>`; returns that folder and its manifest.

    If a notebook fails, the following ones still run, except the report. With `resume`, the run with that id continues
    with its profile, and notebooks that are done are not executed again, except the report if another notebook was. Of
    a notebook that another commit than the run's executes then, the manifest names the commit.
    Each chosen notebook gets those `parameters` that its `parameters` cell declares; one of them must declare each.

    `report` gets a line per notebook. `watch` is called once, with a function that says where the run is at the moment.

    When all chosen notebooks are done, the run is sealed. When every notebook is done, the file `output/LATEST` names
    the run. Raises `UsageError` for an unknown profile, notebook or parameter, `RunError` for an unusable folder, and
    `RunInterrupted` on Ctrl-C.
    """
    chosen, resumed_by = select(only), None
    declared = check_parameters(chosen, parameters or {})
    if resume is None:
        settings = get_profile(profile)
        folder, manifest = _start(settings, output)
    else:
        folder = output / resume
        manifest = replace(read_manifest(folder), complete=False, finished=None, files={}, seal=None, renderer=None)
        commit, dirty = git_state()
        if commit != manifest.git_commit:
            resumed_by = commit
        if manifest.git_dirty is False:
            manifest = replace(manifest, git_dirty=dirty)
        settings = get_profile(manifest.profile)
        for half in folder.rglob(".*.????????"):  # of `atomic_writer` in a killed run; not evidence
            half.unlink()
        write_manifest(folder, manifest)
    check_writable(output / LATEST)
    report(f"run {folder.name}, notebooks {', '.join(notebook.name[:2] for notebook in chosen)}")
    done = {entry.name: entry for entry in manifest.notebooks if entry.status == "done"}
    anything_executed = any(notebook.name not in done for notebook in chosen)
    todo = [notebook for notebook in chosen if notebook.name not in done or (notebook.report and anything_executed)]
    progress = RunProgress({notebook.label: notebook.seconds.get(settings.name, 0) for notebook in todo})
    watch(progress.text)
    for notebook in chosen:
        name = notebook.name
        if notebook not in todo:
            report(f"{name}: already done, {done[name].seconds:.1f} s")
            continue
        others = [other for other in manifest.notebooks if other.name != name]
        try:
            own = {key: value for key, value in (parameters or {}).items() if key in declared[name]}
            entry = _execute_or_skip(notebook, folder, settings, others, own, report, progress)
        except KeyboardInterrupt:
            raise RunInterrupted(folder) from None
        entry = replace(entry, git_commit=resumed_by)
        manifest = replace(manifest, notebooks=sorted([*others, entry], key=lambda run: run.name))
        write_manifest(folder, manifest)
    finished = {entry.name for entry in manifest.notebooks if entry.status == "done"}
    if finished.issuperset(notebook.name for notebook in chosen):
        if write_crate(folder, manifest) is None:
            report("No RO-Crate (ro-crate-metadata.json) was written. It needs: pip install 'bankllm[share]'")
        manifest = seal_run(folder, manifest, complete=finished.issuperset(notebook.name for notebook in notebooks()))
    if manifest.complete:
        write_text(output / LATEST, folder.name + "\n")
    return folder, manifest


def check_parameters(chosen: Sequence[Notebook], parameters: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return notebook name → its parameters. Raise `UsageError` for one that no notebook has: papermill only warns."""
    import papermill

    declared = dict[str, set[str]]()
    for notebook in chosen:
        try:
            declared[notebook.name] = set(papermill.inspect_notebook(str(notebook.path)))
        except ValueError as error:
            raise RunError(f"{notebook.path.name} names no kernel. Run and save it once in Jupyter.") from error
        if unknown := sorted({"profile", "run_dir"} - declared[notebook.name]):
            names = ", ".join(sorted(declared[notebook.name])) or "none"
            raise UsageError(f"{notebook.name} has no parameter {', '.join(unknown)}. Its parameters are: {names}.")
    if unknown := sorted(set(parameters).difference(*declared.values())):
        names = "; ".join(f"{name}: {', '.join(sorted(its))}" for name, its in declared.items())
        raise UsageError(f"No chosen notebook has a parameter {', '.join(unknown)}. Their parameters are: {names}.")
    return declared


def _start(profile: Profile, output: Path) -> tuple[Path, Manifest]:
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
        with write_errors(output / name), contextlib.suppress(FileExistsError):
            (output / name).mkdir(parents=True)
            return output / name
    raise RunError(f"No run can be written to {output}: 99 runs started in this second. Choose another --output.")


def _execute_or_skip(
    notebook: Notebook,
    folder: Path,
    profile: Profile,
    others: Sequence[NotebookRun],
    parameters: Mapping[str, Any],
    report: Report,
    progress: RunProgress,
) -> NotebookRun:
    name = notebook.name
    undone = ", ".join(entry.name for entry in others if entry.status != "done")
    if notebook.report and undone:
        report(f"{name}: skipped, because it needs {undone}")
        return NotebookRun(name=name, status="skipped", seconds=0, error=f"needs {undone}")
    report(f"{name}: running …")
    started = time.monotonic()
    error = _execute(notebook, folder, profile, parameters, progress)
    progress.end_notebook()
    seconds = time.monotonic() - started
    report(f"{name}: {'failed' if error else 'done'}, {seconds:.1f} s" + (f"\n  {error}" if error else ""))
    return NotebookRun(name=name, status="failed" if error else "done", seconds=round(seconds, 2), error=error)


def _execute(
    notebook: Notebook, folder: Path, profile: Profile, parameters: Mapping[str, Any], progress: RunProgress
) -> str | None:
    """Execute one notebook into the run folder, even if a cell fails. Returns a description of the error, if any."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    ensure_writable(KERNEL_FOLDERS)
    target = folder / "notebooks" / notebook.path.name
    target.parent.mkdir(exist_ok=True)
    cells = json.loads(notebook.path.read_text(encoding="utf-8"))["cells"]
    progress.start_notebook(notebook.label, len(cells) + 1)  # papermill adds a cell with the parameters
    section = ""

    def start_cell(cell: Any, cell_index: int) -> None:
        nonlocal section
        if cell.cell_type == "markdown":
            section = next((line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")), section)
        progress.start_cell(cell_index + 1, section)

    try:
        with warnings.catch_warnings(action="ignore"):  # papermill warns about its own internals
            papermill.execute_notebook(
                str(notebook.path),
                str(target),
                parameters={**parameters, "profile": profile.name, "run_dir": str(folder.resolve())},
                kernel_name="python3",
                execution_timeout=profile.cell_timeout_s,
                progress_bar=False,
                on_cell_start=start_cell,
                stdout_file=progress,
                extra_arguments=["--log-level=CRITICAL"],  # the end of an idle kernel is logged as an error
                # Without encryption, other users of the machine could read or control the kernel over its TCP ports.
                config=Config({"KernelManager": {"transport_encryption": "auto"}}),
            )
    except PapermillExecutionError as error:
        return f"cell {error.cell_index} of {target.name}: {error.ename}: {error.evalue}"
    except CellTimeoutError:
        return (
            f"{target.name}: a cell ran longer than {profile.cell_timeout_s} s and was stopped. Is this machine busy?"
        )
    except DeadKernelError:
        return f"{target.name}: the kernel process ended unexpectedly (out of memory, or killed)"
    except OSError as error:
        target.unlink(missing_ok=True)  # an incomplete notebook cannot be opened
        return f"{error.filename or target.name} cannot be read or written ({os.strerror(error.errno or 0)})"
    return None
