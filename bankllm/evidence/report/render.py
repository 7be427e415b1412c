"""Write the report of a run: RESULTS.md, RESULTS.html (with embedded plots), RESUME.md and CITATION.cff.

Every measured number on a page is bound to its record. Records that were not measured or are invalid are listed with
the reason. The output depends only on the records, the manifest and the plots of the run, so `bankllm report RUN`
writes the same bytes again. The pages are the Jinja templates in `templates/`.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bankllm import __version__
from bankllm.errors import RunError
from bankllm.evidence import claim_syntax
from bankllm.evidence.format import describe_how, format_interval, format_part, format_value
from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.records import Record, read_records, write_text
from bankllm.evidence.report.resume import Wordings, latex
from bankllm.evidence.report.summary import (
    TRAINING_COLUMNS,
    by_topic,
    headlines,
    matching,
    plots_by_topic,
    training_table,
)
from bankllm.evidence.seal import MANIFEST, data_of, models_of

TEMPLATES = ("RESULTS.md", "RESULTS.html", "RESUME.md", "CITATION.cff")
REPOSITORY = "https://github.com/bankllm/bankllm"
"""Address of the repository, as in pyproject.toml."""


def render(folder: Path) -> list[Path]:
    """Write the pages into the run's folder and return their paths. Raises `RunError` without records."""
    written = rendered(folder)
    for name, text in written.items():
        write_text(folder / name, text)
    return [folder / name for name in written]


def rendered(folder: Path) -> dict[str, str]:
    """File name → text of each page of a run. Raises `RunError` without records."""
    records = read_records(folder)
    if not records:
        raise RunError(f"{folder} contains no records. Run the other notebooks first: bankllm run")
    environment = _environment()
    context = _context(folder, records)
    return {name: environment.get_template(f"{name}.j2").render(context) for name in TEMPLATES}


def about(folder: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Facts about the run for the top of the pages.

    Without a manifest (notebooks run by hand), `commit`, `dirty` and `started` are None, and `environment` is empty.
    """
    manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
    return {
        "id": manifest.run_id if manifest else folder.name,
        "profile": records[0].conditions["profile"],
        "host": records[0].conditions["host"],
        "datasets": data_of(records),
        "models": models_of(records),
        "commit": manifest and manifest.git_commit,
        "dirty": manifest and manifest.git_dirty,
        "environment": manifest.environment if manifest else {},
        "started": manifest and manifest.started,
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bankllm.evidence.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: bool(name and ".html" in name),
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "value": format_value,
        "interval": format_interval,
        "base64": lambda path: base64.b64encode(path.read_bytes()).decode("ascii"),
        "how": describe_how,
        "sentence": lambda text: text[:1].upper() + text[1:],
        "latex": latex,
        "matching": matching,
        "md": lambda record, part="": claim_syntax.markdown(record.id, format_part(record, part), part),
        "html": lambda record, part="": Markup(claim_syntax.hypertext(record.id, format_part(record, part), part)),
    }
    return environment


def _context(folder: Path, records: Sequence[Record]) -> dict[str, Any]:
    topics = by_topic(records)
    training = training_table(records)
    wordings = Wordings(records)
    columns = {column for row in training.values() for column in row}
    on_banking77 = any(r.id.startswith("training.") and r.conditions.get("dataset") == "banking77" for r in records)
    return {
        "run": about(folder, records),
        "version": __version__,
        "repository": REPOSITORY,
        "sections": topics,
        "plots": plots_by_topic(folder, topics),
        "headlines": headlines(records),
        "records": records,
        "training": training,
        "training_columns": {column: title for column, title in TRAINING_COLUMNS.items() if column in columns},
        "on_banking77": on_banking77,
        "missing": [record for record in records if record.status != "measured"],
        "line": {record.id: number for number, record in enumerate(records, start=1)},
        "wordings": wordings,
        "say": wordings.say,
    }
