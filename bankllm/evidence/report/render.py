"""Turn a run's records into pages: RESULTS.md, RESULTS.html (plots inline), RESUME.md, and what machines read.

Every number on a page is bound to its record; what was not measured says so. Records, manifest and plots alone decide
what comes out, so that `bankllm report RUN` writes the same bytes again.
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
from bankllm.evidence.report.summary import API, TRAINING_COLUMNS, VECTORS, chosen, headlines, sections, training_table
from bankllm.evidence.seal import MANIFEST, data_of, models_of

PAGES = ("RESULTS.md", "RESULTS.html", "RESUME.md")


def render(folder: Path) -> list[Path]:
    """Write pages and exports into the run's folder; returns what was written. Raises `RunError` without records."""
    records = read_records(folder)
    if not records:
        raise RunError(f"{folder} holds no records. Run the other notebooks first (bankllm run).")
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
    """What the head of a page says: which run, where, on what; less where notebooks were opened by hand."""
    about: dict[str, Any] = {
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
        about |= {
            "id": manifest.run_id,
            "command": f"bankllm run --profile {manifest.profile}",
            "commit": manifest.git_commit,
            "dirty": manifest.git_dirty,
            "environment": manifest.environment,
            "started": manifest.started,
        }
    return about


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
        "figure": _inline,
        "how": describe_how,
        "md": _markdown,
        "html": _hypertext,
    }
    return environment


def _context(folder: Path, run: dict[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    training = training_table(records)
    on_banking77 = any(r.id.startswith("training.") and r.conditions.get("dataset") == "banking77" for r in records)
    return {
        "run": run,
        "sections": sections(folder, records),
        "headlines": headlines(records),
        "api": chosen(records, API),
        "vectors": chosen(records, VECTORS),
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


def _hypertext(record: Record, part: str = "") -> Markup:
    return Markup(claim_syntax.hypertext(record.id, format_part(record, part), part))


def _inline(path: Path) -> str:
    """A picture as a data URI, so that the page is one file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
