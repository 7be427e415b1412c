"""Find numbers in prose that look measured but have no claim, and placeholders for such numbers.

`bankllm claims --check README.md` searches the results sections for a number with a unit of time, rate, size or share.
`bankllm claims --scan resume.tex` searches a whole document (Markdown, plain text, LaTeX or a notebook), also for
placeholders, and suggests the record with the same unit that has the most words in common with the text around.
Claims, code, comments and URLs are not prose.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bankllm.errors import RunError
from bankllm.evidence.claim_syntax import CLAIM, HTML_CLAIM, LATEX_CLAIM
from bankllm.evidence.format import format_value
from bankllm.evidence.records import Record
from bankllm.evidence.report.claims import read_markdown

SPELLINGS = {
    "ms": "ms milliseconds µs us",
    "s": "s sec second seconds min minutes h hours",
    "share": "% percent",
    "requests/s": "req/s reqs/s requests/s requests/second requests/sec rps qps queries/s",
    "texts/s": "texts/s",
    "bytes": "KB kB MB GB KiB MiB GiB",
    "ratio": "× x",
}
"""Unit of records → how prose writes units of the same quantity."""
UNITS = {word: unit for unit, words in SPELLINGS.items() for word in words.split()}
UNIT = rf"(?P<unit>{'|'.join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))})(?![\w/])"
NUMBER = re.compile(rf"(?<![\w.,/=-])[~≈<>≤≥]? ?\d[\d,]*(?:\.\d+)?(?: ?[–-] ?\d[\d,]*(?:\.\d+)?)? ?{UNIT}")
EXCEPTIONS = {"share": re.compile(r" ?(?:confidence\b|intervals?\b|CI\b)"), "ratio": re.compile(r" ?\d")}
"""Unit → text after a number that is no measurement: the 95 % of an interval, the × of dimensions (15,000 × 384)."""
NOT_PROSE = re.compile(
    r"<!--.*?-->|```.*?```|`[^`\n]*`|\]\([^)\n]*\)|https?://\S+|\\label\{[^}]*\}|<style>.*?</style>", re.DOTALL
)
HEADING = re.compile(r"^(#{1,6}) (.*)$")
RESULTS_HEADING = re.compile(r"\b(?:results?|figures|performance|measured)\b", re.IGNORECASE)
RESULTS_BEGIN, RESULTS_END = "<!-- results -->", "<!-- /results -->"
NOT_MEASURED_HERE = re.compile(r"<!-- not measured here: [^>]+ -->")
BLOCK = re.compile(r"(?:[^\S\n]*\S.*\n?)+")
"""Lines without a blank line between them."""

PLACEHOLDER_WORDS = r"XX+|TBD|TODO|FIXME|\?{3,}|lorem ipsum|_{3,}"
"""Placeholders in prose and in code."""
NAMED = r"number|value|figure|result|percent|latency|accuracy|metric|count|n|x|y"
SLOT = (
    rf"<(?:{NAMED})>|\[(?:{NAMED}|insert[^\]\n]*|your [^\]\n]*)\](?!\()|\{{\{{ ?\w+ ?\}}\}}|"
    r"[~≈] ?[NX]\b|\b(?-i:[NX]{1,2}(?:\.[NX]{1,2})?)(?= ?(?:%|ms\b|req/s|requests/s|GB\b|MB\b|MiB\b|[x×]\b))|\bN/A\b"
)
PLACEHOLDER = re.compile(rf"(?<![\w$])(?:{PLACEHOLDER_WORDS}|{SLOT})(?!\w)|(?<!\w)lorem ipsum", re.IGNORECASE)
"""Placeholders. `SLOT` is searched for only in prose: in code, `<x>` or `N/A` are ordinary syntax or data."""
CLAUSE_BOUNDARY = re.compile(r"[.;!?](?:\s|$)|,\s|\||\n|\s(?:and|und|with)\s|\s[–—]\s")
WORD = re.compile(r"[a-z][a-z0-9]+")
STOP = frozenset(("an", "the", "of", "to", "at", "in", "on", "by", "for", "is", "was", "one", "ms", "all"))
"""Words that say nothing about what was measured."""
PERCENTILE = re.compile(r"p\d\d+")
"""A text that mentions p50 never gets a p95 as its suggestion."""


class UnboundNumber(NamedTuple):
    """A number that looks measured and has no claim, or a placeholder."""

    line: int
    """From 1."""
    column: int
    """From 0."""
    text: str
    """Number and unit, or placeholder, as written."""
    unit: str
    """Unit of the records that could support the number; empty for a placeholder without a unit."""
    kind: str = "unbound number"


def find_unbound_numbers(text: str) -> Iterator[UnboundNumber]:
    """Yields the unbound numbers of a text in order, except in blocks marked `<!-- not measured here: source -->`."""
    exempt = _exempt_lines(text)
    for number, line in enumerate(_prose(text).splitlines(), start=1):
        for match in NUMBER.finditer(line) if number not in exempt else ():
            unit = UNITS[match["unit"]]
            if not (unit in EXCEPTIONS and EXCEPTIONS[unit].match(line, match.end())):
                yield UnboundNumber(number, match.start(), match[0].strip(), unit)


def unbound_numbers_in_results(text: str) -> Iterator[UnboundNumber]:
    """Yields the unbound numbers of the results sections.

    A results section begins with a heading that contains the word result(s), figures, performance or measured, and ends
    at the next heading of the same or a higher level. Text between `<!-- results -->` and `<!-- /results -->` is also a
    results section.
    """
    lines = _results_lines(text)
    return (number for number in find_unbound_numbers(text) if number.line in lines)


def scan(file: Path, records: Sequence[Record]) -> list[str]:
    """Returns one line of text per placeholder and unbound number of a file, in order, with the measured record to use.

    Raises `RunError` if the file is neither UTF-8 text nor a notebook.
    """
    measured = [record for record in records if record.status == "measured"]
    found = []
    for location, text, is_code in _parts(file):
        lines = _prose(text).splitlines()
        numbers = [*_placeholders(text, is_code), *(() if is_code else find_unbound_numbers(text))]
        for number in sorted(numbers):
            line = lines[number.line - 1] if number.line <= len(lines) else ""
            record = _best_match(_clause(line, number), number.unit, measured)
            suggestion = f"{record.id} = {format_value(record)}" if record else "no matching record in the run"
            found.append(f"{location}:{number.line}: {number.kind} {number.text!r} -> {suggestion}")
    return found


def _prose(text: str) -> str:
    """Replaces claims, code, comments and URLs by spaces. Line and column numbers do not change."""
    text = text.replace("\\%", " %")
    for pattern in (CLAIM, HTML_CLAIM, LATEX_CLAIM, NOT_PROSE):
        text = pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    return text


def _results_lines(text: str) -> set[int]:
    inside: set[int] = set()
    level, marked, code = 0, False, False
    for number, line in enumerate(text.splitlines(), start=1):
        code ^= line.lstrip().startswith("```")
        heading = None if code else HEADING.match(line)
        if heading and (not level or len(heading[1]) <= level):
            level = len(heading[1]) if RESULTS_HEADING.search(heading[2]) else 0
        marked = (marked or RESULTS_BEGIN in line) and RESULTS_END not in line
        if level or marked:
            inside.add(number)
    return inside


def _exempt_lines(text: str) -> set[int]:
    """Returns the line numbers of the blocks with the mark `NOT_MEASURED_HERE`, and of the block after a mark alone."""
    exempt: set[int] = set()
    pending = False
    for block in BLOCK.finditer(text):
        marked = bool(NOT_MEASURED_HERE.search(block[0]))
        if pending or marked:
            first = text.count("\n", 0, block.start()) + 1
            exempt |= set(range(first, first + block[0].count("\n") + 1))
        pending = marked and not NOT_MEASURED_HERE.sub("", block[0]).strip()
    return exempt


def _placeholders(text: str, is_code: bool) -> Iterator[UnboundNumber]:
    pattern = re.compile(rf"(?<![\w$])(?:{PLACEHOLDER_WORDS})(?!\w)") if is_code else PLACEHOLDER
    for number, line in enumerate((text if is_code else _prose(text)).splitlines(), start=1):
        for match in pattern.finditer(line):
            unit = re.compile(f" ?{UNIT}").match(line, match.end())
            yield UnboundNumber(number, match.start(), match[0], UNITS[unit["unit"]] if unit else "", "placeholder")


def _clause(line: str, number: UnboundNumber) -> str:
    """Returns the text around a number, up to the nearest full stop, comma, `and` or `|`."""
    end = number.column + len(number.text)
    start = max((match.end() for match in CLAUSE_BOUNDARY.finditer(line, 0, number.column)), default=0)
    return line[start : next((match.start() for match in CLAUSE_BOUNDARY.finditer(line, end)), len(line))]


def _best_match(clause: str, unit: str, records: Sequence[Record]) -> Record | None:
    """Returns the record with that unit (empty: any unit) that has the most words in common with the clause."""
    wanted = set(WORD.findall(clause.lower())) - STOP
    percentiles = set(filter(PERCENTILE.fullmatch, wanted))
    best, most = None, 0.0
    for record in records:
        own = set(WORD.findall(f"{record.id} {record.title}".lower().replace("_", " ")))
        common = len(wanted & own) - 0.01 * len(own)  # of two equal matches, the shorter title
        if common > most and unit in ("", record.unit) and (not percentiles or percentiles & own):
            best, most = record, common
    return best


def _parts(file: Path) -> Iterator[tuple[str, str, bool]]:
    """Yields location, text and whether the text is code: one part per notebook cell, or the whole file."""
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
