"""Makes false but consistent runs: rows are edited, and everything is computed from them anew, as an author could."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bankllm.evidence.manifest import read_manifest, write_manifest
from bankllm.evidence.raw_files import read_table
from bankllm.evidence.record_rules import exclusions
from bankllm.evidence.records import Record, measure, read_records, write_records, write_rows
from bankllm.evidence.report.render import render
from bankllm.evidence.run import Run
from bankllm.evidence.share.ro_crate import write_crate
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.profiles import PROFILES
from bankllm.training.language_model import adapter_folder
from bankllm.util.file_hash import sha256_file
from tests.support.every_kind import ADAPTER, NOTEBOOKS
from tests.support.sealed_run import write_notebook

EditRow = Callable[[dict[str, str]], Mapping[str, object]]


def forge(folder: Path, rows: Mapping[str, EditRow], **changes: Any) -> Path:
    """Edits the rows of raw files and fields of the manifest of a `run_of_every_kind`, and makes the rest agree."""
    for name, edit in rows.items():
        write_rows(folder / name, [{**row, **edit(row)} for row in read_table(folder / name, name)])
    marks = exclusions(folder)
    write_records(folder, [_measured_again(folder, one, marks.get(one.id)) for one in read_records(folder)])
    adapter_folder.describe(folder / ADAPTER)
    manifest = replace(read_manifest(folder), **changes)
    write_manifest(folder, manifest)
    render(folder)
    for name in NOTEBOOKS:
        write_notebook(Run(folder, name, PROFILES["quick"]), folded=name == NOTEBOOKS[-1])
    write_crate(folder, manifest)
    seal_run(folder, manifest, complete=False)
    return folder


def _measured_again(folder: Path, one: Record, mark: str | None) -> Record:
    if one.raw is None or one.statistic is None:
        return one
    raw = replace(one.raw, sha256=sha256_file(folder / one.raw.path))
    about: dict[str, Any] = {"title": one.title, "notebook": one.notebook, "unit": one.unit, "invalid_because": mark}
    how = {"parameters": one.parameters, "conditions": one.conditions}
    return measure(folder, one.id, one.statistic, raw, **how, **about)
