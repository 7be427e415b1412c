"""Write the report of a run: RESULTS.md, RESULTS.html (with embedded plots), RESUME.md and CITATION.cff.

Every measured number on a page is bound to its record. The pages are the Jinja templates in `templates/`; they
depend only on the records, the manifest and the plots of the run, so `bankllm report RUN` writes the same bytes again.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bankllm import __version__
from bankllm.errors import RunError
from bankllm.evidence import claim_syntax, format
from bankllm.evidence.format import describe_how, format_interval, format_part, format_value
from bankllm.evidence.manifest import MANIFEST, data_of, models_of, read_manifest
from bankllm.evidence.records import Record, read_records
from bankllm.evidence.report import summary
from bankllm.evidence.report.resume import Wordings, latex
from bankllm.evidence.report.roadmap import judge_targets
from bankllm.evidence.statements import shown_reproductions
from bankllm.util.atomic_files import write_text

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
    environment, context = _environment(), _context(folder, records)
    return {name: environment.get_template(f"{name}.j2").render(context) for name in TEMPLATES}


def renderer() -> str:
    """Names the code that writes the pages. Two runs with the same name were rendered by the same code."""
    digest = hashlib.sha256(Path(format.__file__).read_bytes())
    for path in sorted(Path(__file__).parent.rglob("*.[pj]*")):  # modules and Jinja templates
        if path.suffix in (".py", ".j2"):
            digest.update(path.read_bytes())
    return f"bankllm {__version__} {digest.hexdigest()[:12]}, jinja2 {version('jinja2')}"


def changed_pages(folder: Path) -> list[str]:
    """Returns the pages and exports that differ from what `render` writes now; all of them in a run without pages."""
    if not (folder / TEMPLATES[0]).is_file():
        return list(TEMPLATES)
    expected = rendered(folder)
    files = {name: folder / name for name in expected}
    return [n for n, path in files.items() if not path.is_file() or path.read_bytes() != expected[n].encode("utf-8")]


def about(folder: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Facts about the run for the top of the pages. Notebooks run by hand have no manifest."""
    manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
    return {
        "id": manifest.run_id if manifest else folder.name,
        "profile": records[0].conditions["profile"],
        "host": records[0].conditions["host"],
        "datasets": data_of(records),
        "models": models_of(records),
        "commit": manifest and manifest.git_commit,
        "dirty": manifest and manifest.git_dirty,
        "other_commits": {run.name: run.git_commit for run in manifest.notebooks if run.git_commit} if manifest else {},
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
    filters: dict[str, Callable[..., str]] = {
        "value": format_value,
        "interval": format_interval,
        "base64": lambda path: base64.b64encode(path.read_bytes()).decode("ascii"),
        "how": describe_how,
        "sentence": lambda text: text[:1].upper() + text[1:],
        "cell": lambda text: text.replace("<!--", "&lt;!--").replace("|", r"\|"),  # of a Markdown table
        "latex": latex,
        "md": lambda record, part="": claim_syntax.markdown(record.id, format_part(record, part), part),
        "html": lambda record, part="": Markup(claim_syntax.hypertext(record.id, format_part(record, part), part)),
    }
    environment.filters |= filters
    return environment


def _context(folder: Path, records: Sequence[Record]) -> dict[str, Any]:
    judged = judge_targets(records)
    on_banking77 = any(r.id.startswith("training.") and r.conditions.get("dataset") == "banking77" for r in records)
    return {
        "run": about(folder, records),
        "version": __version__,
        "repository": REPOSITORY,
        "sections": summary.sections(folder, records),
        "headlines": [(each, summary.HEADLINES.get(each.id, each.title)) for each in summary.headlines(records)],
        "records": records,
        "judged": judged,
        "statuses": Counter(each.status for each in judged),
        "folded_from": summary.FOLDED_FROM,
        "on_banking77": on_banking77,
        "missing": [record for record in records if record.status != "measured"],
        "line": {record.id: number for number, record in enumerate(records, start=1)},
        "wordings": Wordings(records),
        "reproductions": shown_reproductions(folder),
    }
