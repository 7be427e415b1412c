"""Find numbers in prose that look measured but have no claim, and placeholders for such numbers.

`bankllm claims --check README.md` searches the results sections, `bankllm claims --scan resume.tex` the whole document
(Markdown, plain text, LaTeX or a notebook), also for placeholders. Claims, code, comments and URLs are not prose.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bankllm.errors import RunError
from bankllm.evidence.claim_syntax import CLAIM, HTML_CLAIM, LATEX_CLAIM

UNIT = (
    r"(?P<unit>milliseconds|ms|µs|us|seconds?|sec|s|minutes|min|hours|h|%|percent|req(?:uest)?s?/s(?:ec|econd)?|rps|qps|"
    r"queries/s|texts/s|[kKMG]i?B|×|x)(?![\w/])"
)
"""Units of time, share, rate, size and ratio as prose writes them."""
NUMBER = re.compile(rf"(?<![\w.,/=-])[~≈<>≤≥]? ?\d[\d,]*(?:\.\d+)?(?: ?[–-] ?\d[\d,]*(?:\.\d+)?)? ?{UNIT}")
CONVENTION, DIMENSION = re.compile(r" ?(?:confidence\b|intervals?\b|CI\b)"), re.compile(r" ?\d")
EXCEPTIONS = {"%": CONVENTION, "percent": CONVENTION, "×": DIMENSION, "x": DIMENSION}
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


class UnboundNumber(NamedTuple):
    """A number that looks measured and has no claim, or a placeholder. Lines count from 1, columns from 0."""

    line: int
    column: int
    text: str
    kind: str = "unbound number"


def find_unbound_numbers(text: str) -> Iterator[UnboundNumber]:
    """Yields the unbound numbers of a text in order, except in blocks marked `<!-- not measured here: source -->`."""
    exempt = _exempt_lines(text)
    for number, line in enumerate(_prose(text).splitlines(), start=1):
        for match in NUMBER.finditer(line) if number not in exempt else ():
            unit = match["unit"]
            if not (unit in EXCEPTIONS and EXCEPTIONS[unit].match(line, match.end())):
                yield UnboundNumber(number, match.start(), match[0].strip())


def unbound_numbers_in_results(text: str) -> Iterator[UnboundNumber]:
    """Yields the unbound numbers below a `RESULTS_HEADING`, and between `RESULTS_BEGIN` and `RESULTS_END`."""
    lines = _results_lines(text)
    return (number for number in find_unbound_numbers(text) if number.line in lines)


def scan(file: Path) -> list[str]:
    """Describes each placeholder and unbound number of a file. Raises `RunError` if it is not text or a notebook."""
    found = []
    for location, text, is_code in _parts(file):
        numbers = [*_placeholders(text, is_code), *(() if is_code else find_unbound_numbers(text))]
        found += [f"{location}:{number.line}: {number.kind} {number.text!r}" for number in sorted(numbers)]
    return found


def read_document(file: Path) -> str:
    """Reads a text file. Raises `RunError` if it cannot be read or is not UTF-8 text."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunError(f"{file} cannot be read ({reason}). Expected a text file in UTF-8; check the path.") from error


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
            yield UnboundNumber(number, match.start(), match[0], "placeholder")


def _parts(file: Path) -> Iterator[tuple[str, str, bool]]:
    """Yields location, text and whether the text is code: one part per notebook cell, or the whole file."""
    text = read_document(file)
    if file.suffix != ".ipynb":
        yield str(file), text, False
        return
    try:
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    except (ValueError, LookupError, TypeError) as error:
        raise RunError(f"{file} is not a notebook ({error!r}). Expected JSON in the format nbformat 4.") from error
    for number, (kind, source) in enumerate(cells, start=1):
        yield f"{file}:cell {number}", source, kind == "code"
