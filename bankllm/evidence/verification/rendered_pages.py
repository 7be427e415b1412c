"""Compare the pages and exports of a run with what the report writes from its records, manifest and plots now."""

import hashlib
from importlib.metadata import version
from pathlib import Path

from bankllm import __version__
from bankllm.evidence import format, report
from bankllm.evidence.report.render import rendered
from bankllm.evidence.verification.page_checks import PAGES


def renderer() -> str:
    """Names the code that writes the pages. Two runs with the same name were rendered by the same code."""
    digest = hashlib.sha256(Path(format.__file__).read_bytes())
    for path in sorted(Path(report.__file__).parent.rglob("*.[pj]*")):  # modules and Jinja templates
        if path.suffix in (".py", ".j2"):
            digest.update(path.read_bytes())
    return f"bankllm {__version__} {digest.hexdigest()[:12]}, jinja2 {version('jinja2')}"


def changed_pages(folder: Path) -> list[str]:
    """Returns the pages and exports that differ from what the report writes now; all of them in a run without pages."""
    if not (folder / PAGES[0]).is_file():
        return list(PAGES)
    expected = rendered(folder)
    files = {name: folder / name for name in expected}
    return [n for n, path in files.items() if not path.is_file() or path.read_bytes() != expected[n].encode("utf-8")]
