"""Find placeholders and unbound numbers in a document, and suggest a record for each.

An unbound number looks measured but is not bound to a record. `bankllm claims --scan resume.tex notes.ipynb` reads
Markdown, plain text, LaTeX and notebooks. The suggested record has the same unit and the most words in common with the
surrounding text.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.format import format_value
from bankllm.evidence.records import Record
from bankllm.evidence.report.claims import read_markdown
from bankllm.evidence.unbound_numbers import UNIT, UNITS, find_unbound_numbers, prose

PLACEHOLDER_WORDS = r"XX+|TBD|TODO|FIXME|\?{3,}|lorem ipsum|_{3,}"
"""Placeholders in prose and in code."""
NAMED = r"number|value|figure|result|percent|latency|accuracy|metric|count|n|x|y"
SLOT = (
    rf"<(?:{NAMED})>|\[(?:{NAMED}|insert[^\]\n]*|your [^\]\n]*)\](?!\()|\{{\{{ ?\w+ ?\}}\}}|"
    r"[~≈] ?[NX]\b|\b(?-i:[NX]{1,2}(?:\.[NX]{1,2})?)(?= ?(?:%|ms\b|req/s|requests/s|GB\b|MB\b|MiB\b|[x×]\b))|\bN/A\b"
)
PLACEHOLDER = re.compile(rf"(?<![\w$])(?:{PLACEHOLDER_WORDS}|{SLOT})(?!\w)|(?<!\w)lorem ipsum", re.IGNORECASE)
"""Placeholders. `SLOT` is searched for only in prose: in code, `<x>` or `N/A` are ordinary syntax or data."""
UNIT_AFTER = re.compile(rf" ?(?P<unit>{UNIT})(?![\w/])")
CLAUSE_BOUNDARY = re.compile(r"[.;!?](?:\s|$)|,\s|\||\n|\s(?:and|und|with)\s|\s[–—]\s")
WORD = re.compile(r"[a-z][a-z0-9]+")
PERCENTILE = re.compile(r"p\d\d+")
"""A text that mentions p50 never gets a p95 as its suggestion."""
STOP = {"an", "the", "of", "to", "at", "in", "on", "by", "for", "is", "was", "one", "ms", "all", "new", "old"}
"""Words that are ignored when texts are compared."""


@dataclass(frozen=True)
class ScanFinding:
    """A placeholder or an unbound number, and the record that could replace it."""

    location: str
    """`file:line`, or `file:cell 3:line` in a notebook."""
    text: str
    kind: str
    """`placeholder` or `unbound number`."""
    record: Record | None

    def __str__(self) -> str:
        suggestion = (
            f"{self.record.id} = {format_value(self.record)}" if self.record else "no matching record in the run"
        )
        return f"{self.location}: {self.kind} {self.text!r} -> {suggestion}"


def scan(file: Path, records: Sequence[Record]) -> list[ScanFinding]:
    """Find all placeholders and unbound numbers of a file, in order. Suggestions come from the measured records.

    Raises `RunError` if the file is neither UTF-8 text nor a notebook.
    """
    measured = [record for record in records if record.status == "measured"]
    return [finding for part in _parts(file) for finding in _scan_text(*part, measured)]


def _scan_text(location: str, text: str, is_code: bool, records: Sequence[Record]) -> Iterator[ScanFinding]:
    lines = prose(text).splitlines()
    found = [
        (number, match.start(), match[0], "placeholder", "")
        for number, line in enumerate(text.splitlines() if is_code else lines, start=1)
        for match in PLACEHOLDER.finditer(line)
        if not is_code or re.fullmatch(PLACEHOLDER_WORDS, match[0])
    ]
    if not is_code:
        found += [(n.line, n.column, n.text, "unbound number", n.unit) for n in find_unbound_numbers(text)]
    for number, column, matched, kind, unit in sorted(found):
        line = lines[number - 1] if number <= len(lines) else ""
        if not unit and (after := UNIT_AFTER.match(line, column + len(matched))):
            unit = UNITS[after["unit"]]
        record = _best_match(clause(line, column, len(matched)), unit, records)
        yield ScanFinding(f"{location}:{number}", matched, kind, record)


def clause(line: str, column: int, length: int) -> str:
    """The clause of a line around the text at `column`, up to the nearest full stop, comma, `and` or `|`."""
    start = max((match.end() for match in CLAUSE_BOUNDARY.finditer(line, 0, column)), default=0)
    end = next((match.start() for match in CLAUSE_BOUNDARY.finditer(line, column + length)), len(line))
    return line[start:end]


def _best_match(words: str, unit: str, records: Sequence[Record]) -> Record | None:
    """The record with that unit (empty: any unit) that has the most words in common with the clause, or None."""
    wanted = _words(words)
    percentiles = set(filter(PERCENTILE.fullmatch, wanted))
    best, most = None, 0.0
    for record in records:
        own = _words(f"{record.id} {record.title}")
        common = len(wanted & own) - 0.01 * len(own)  # of two equal matches, the shorter title
        if common > most and unit in ("", record.unit) and (not percentiles or percentiles & own):
            best, most = record, common
    return best


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower().replace("_", " "))) - STOP


def _parts(file: Path) -> Iterator[tuple[str, str, bool]]:
    """Location, text and whether the text is code: one part per notebook cell, or the whole file."""
    text = read_markdown(file)
    if file.suffix != ".ipynb":
        yield str(file), text, False
        return
    try:
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    except (ValueError, LookupError, TypeError) as error:
        raise RunError(f"{file} is not a notebook ({error!r}). Expected JSON in the format nbformat 4.") from error
    for number, (kind, source) in enumerate(cells, start=1):
        yield f"{file}:cell {number}", source, kind == "code"
