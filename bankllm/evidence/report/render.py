"""Write the report of a run: RESULTS.md, RESULTS.html (with embedded plots), RESUME.md and the exports.

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

from bankllm.errors import RunError
from bankllm.evidence import claim_syntax
from bankllm.evidence.format import describe_how, format_interval, format_part, format_value
from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.records import Record, read_records, write_text
from bankllm.evidence.report.exports import badges, citation, results_csv, results_json
from bankllm.evidence.report.resume import write_resume
from bankllm.evidence.report.roadmap import REPORTED_BY_OTHERS
from bankllm.evidence.report.summary import (
    API_RECORDS,
    TRAINING_COLUMNS,
    VECTOR_RECORDS,
    headlines,
    matching,
    sections,
    training_table,
)
from bankllm.evidence.seal import MANIFEST, data_of, models_of

PAGES = ("RESULTS.md", "RESULTS.html", "RESUME.md")


def render(folder: Path) -> list[Path]:
    """Write the pages and exports into the run's folder and return their paths. Raises `RunError` without records."""
    records = read_records(folder)
    if not records:
        raise RunError(f"{folder} contains no records. Run the other notebooks first: bankllm run")
    run = about(folder, records)
    environment = _environment()
    context = _context(folder, run, records)
    written = {name: environment.get_template(f"{name}.j2").render(context) for name in PAGES}
    written |= {
        "results.csv": results_csv(records),
        "results.json": results_json(run, records),
        "CITATION.cff": citation(run, records),
    }
    written |= {f"badges/{name}": text for name, text in badges(records).items()}
    for name, text in written.items():
        write_text(folder / name, text)
    return [folder / name for name in written]


def about(folder: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Facts about the run for the top of the pages: id, profile, machine, data sets, models, commit and start time.

    If the notebooks were run by hand, there is no manifest: `command`, `commit`, `dirty` and `started` are then None,
    and `environment` is empty.
    """
    facts: dict[str, Any] = {
        "id": folder.name,
        "profile": records[0].conditions["profile"],
        "host": records[0].conditions["host"],
        "datasets": data_of(records),
        "models": models_of(records),
        "command": None,
        "commit": None,
        "dirty": None,
        "environment": {},
        "started": None,
    }
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        facts |= {
            "id": manifest.run_id,
            "command": f"bankllm run --profile {manifest.profile}",
            "commit": manifest.git_commit,
            "dirty": manifest.git_dirty,
            "environment": manifest.environment,
            "started": manifest.started,
        }
    return facts


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
        "figure": _data_uri,
        "how": describe_how,
        "md": _markdown,
        "html": _html,
    }
    return environment


def _context(folder: Path, run: dict[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    training = training_table(records)
    on_banking77 = any(r.id.startswith("training.") and r.conditions.get("dataset") == "banking77" for r in records)
    return {
        "run": run,
        "sections": sections(folder, records),
        "headlines": headlines(records),
        "api": matching(records, API_RECORDS),
        "vectors": matching(records, VECTOR_RECORDS),
        "training": training,
        "training_columns": {
            column: title
            for column, title in TRAINING_COLUMNS.items()
            if any(column in row for row in training.values())
        },
        "others": REPORTED_BY_OTHERS if on_banking77 else (),
        "missing": [record for record in records if record.status != "measured"],
        "line": {record.id: number for number, record in enumerate(records, start=1)},
        "resume": write_resume(records, run["host"], run["profile"]),
    }


def _markdown(record: Record, part: str = "") -> str:
    return claim_syntax.markdown(record.id, format_part(record, part), part)


def _html(record: Record, part: str = "") -> Markup:
    return Markup(claim_syntax.hypertext(record.id, format_part(record, part), part))


def _data_uri(path: Path) -> str:
    """The PNG file as a data URI, so that the HTML page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
