"""Find what looks like a measured figure in prose: a number with a unit of time, rate, size or share.

Bound numbers, code, comments and addresses are not prose. `claims` asks this of results sections, `scan` of any text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bankllm.evidence.claim_syntax import CLAIM, HTML_CLAIM, LATEX_CLAIM

UNITS = {
    "ms": "ms",
    "milliseconds": "ms",
    "s": "s",
    "sec": "s",
    "second": "s",
    "seconds": "s",
    "min": "s",
    "minutes": "s",
    "h": "s",
    "hours": "s",
    "µs": "ms",
    "us": "ms",
    "%": "share",
    "percent": "share",
    "req/s": "requests/s",
    "reqs/s": "requests/s",
    "requests/s": "requests/s",
    "requests/second": "requests/s",
    "requests/sec": "requests/s",
    "rps": "requests/s",
    "qps": "requests/s",
    "queries/s": "requests/s",
    "texts/s": "texts/s",
    "KB": "bytes",
    "kB": "bytes",
    "MB": "bytes",
    "GB": "bytes",
    "KiB": "bytes",
    "MiB": "bytes",
    "GiB": "bytes",
    "×": "ratio",
    "x": "ratio",
}
"""How people write a unit → the unit of the records that could bear it out."""

UNIT = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
FIGURE = re.compile(
    rf"(?<![\w.,/=-])[~≈<>≤≥]? ?\d[\d,]*(?:\.\d+)?(?: ?[–-] ?\d[\d,]*(?:\.\d+)?)? ?(?P<unit>{UNIT})(?![\w/])"
)
LEVEL = re.compile(r" ?(?:confidence\b|intervals?\b|CI\b)")
"""What follows the 95 % of an interval, which is a convention and not a measurement."""
SIZE = re.compile(r" ?\d")
"""What follows the × of a size such as 15,000 × 384, which is no ratio."""

NOT_PROSE = re.compile(
    r"<!--.*?-->|```.*?```|`[^`\n]*`|\]\([^)\n]*\)|https?://\S+|\\label\{[^}]*\}|<style>.*?</style>", re.DOTALL
)
HEADING = re.compile(r"^(#{1,6}) (.*)$")
RESULTS = re.compile(r"\b(?:results?|figures|performance|measured)\b", re.IGNORECASE)
RESULTS_BEGIN, RESULTS_END = "<!-- results -->", "<!-- /results -->"
ELSEWHERE = re.compile(r"<!-- not measured here: [^>]+ -->")


@dataclass(frozen=True)
class UnboundNumber:
    """A measured-looking figure: where it stands, how it is written, and the unit of a record that would fit."""

    line: int
    column: int
    text: str
    unit: str


def find_unbound_numbers(text: str) -> Iterator[UnboundNumber]:
    """Every unbound figure of a text, in order, but those in blocks marked `<!-- not measured here: source -->`."""
    exempt = _exempt_lines(text)
    for number, line in enumerate(prose(text).splitlines(), start=1):
        for match in FIGURE.finditer(line) if number not in exempt else ():
            unit = UNITS[match["unit"]]
            convention = {"share": LEVEL, "ratio": SIZE}.get(unit)
            if not (convention and convention.match(line, match.end())):
                yield UnboundNumber(number, match.start(), match[0].strip(), unit)


def unbound_numbers_in_results(text: str) -> Iterator[UnboundNumber]:
    """Unbound figures of the results sections alone.

    Such a section is headed by a line with the word Results, Figures, Performance or Measured and ends at the next
    heading of its level, or stands between `<!-- results -->` and `<!-- /results -->`.
    """
    wanted = _results_lines(text)
    return (figure for figure in find_unbound_numbers(text) if figure.line in wanted)


def prose(text: str) -> str:
    """The text with all that is bound, code, comment or address blanked; lines and columns stay where they are."""
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
            level = len(heading[1]) if RESULTS.search(heading[2]) else 0
        marked = (marked or RESULTS_BEGIN in line) and RESULTS_END not in line
        if level or marked:
            inside.add(number)
    return inside


def _exempt_lines(text: str) -> set[int]:
    """Lines of blocks that hold the mark; a mark that stands alone speaks of the block after it."""
    exempt: set[int] = set()
    block: list[tuple[int, str]] = []
    pending = False
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.strip():
            block.append((number, line))
            continue
        words = "\n".join(line for _, line in block)
        if block:
            if pending or ELSEWHERE.search(words):
                exempt |= {line_number for line_number, _ in block}
            pending = bool(ELSEWHERE.search(words)) and not ELSEWHERE.sub("", words).strip()
        block = []
    return exempt
