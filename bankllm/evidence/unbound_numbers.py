"""Find numbers in prose that look measured but have no claim: a number with a unit of time, rate, size or share.

Claims, code, comments and URLs are not prose. `bankllm claims --check` searches results sections, and
`bankllm claims --scan` searches the whole text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bankllm.evidence.claim_syntax import CLAIM, HTML_CLAIM, LATEX_CLAIM

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
"""Unit as written in prose → unit of the records that could support the number."""
UNIT = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
"""Alternatives of a regular expression, longest unit first."""
NUMBER = re.compile(
    rf"(?<![\w.,/=-])[~≈<>≤≥]? ?\d[\d,]*(?:\.\d+)?(?: ?[–-] ?\d[\d,]*(?:\.\d+)?)? ?(?P<unit>{UNIT})(?![\w/])"
)
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


@dataclass(frozen=True)
class UnboundNumber:
    """A number that looks measured and has no claim."""

    line: int
    """From 1."""
    column: int
    """From 0."""
    text: str
    """Number and unit as written."""
    unit: str
    """Unit of the records that could support the number."""


def find_unbound_numbers(text: str) -> Iterator[UnboundNumber]:
    """Yields the unbound numbers of a text in order, except in blocks marked `<!-- not measured here: source -->`."""
    exempt = _exempt_lines(text)
    for number, line in enumerate(prose(text).splitlines(), start=1):
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


def prose(text: str) -> str:
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
