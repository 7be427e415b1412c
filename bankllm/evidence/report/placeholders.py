"""Find what a page promises and does not deliver: placeholders, and figures that no record bears out.

`bankllm claims --scan resume.tex notes.ipynb` reads Markdown, notebooks and résumés as plain text, LaTeX too, and
names for each find the record of a run that could stand there: same unit, most words in common.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.format import format_value
from bankllm.evidence.records import Record
from bankllm.evidence.report.claims import read_markdown
from bankllm.evidence.unbound_numbers import UNIT, UNITS, find_unbound_numbers, prose

WORDS = r"XX+|TBD|TODO|FIXME|\?{3,}|lorem ipsum|_{3,}"
NAMED = r"number|value|figure|result|percent|latency|accuracy|metric|count|n|x|y"
SLOT = (
    rf"<(?:{NAMED})>|\[(?:{NAMED}|insert[^\]\n]*|your [^\]\n]*)\](?!\()|\{{\{{ ?\w+ ?\}}\}}|"
    r"[~≈] ?[NX]\b|\b(?-i:[NX]{1,2}(?:\.[NX]{1,2})?)(?= ?(?:%|ms\b|req/s|requests/s|GB\b|MB\b|MiB\b|[x×]\b))|\bN/A\b"
)
PLACEHOLDER = re.compile(rf"(?<![\w$])(?:{WORDS}|{SLOT})(?!\w)|(?<!\w)lorem ipsum", re.IGNORECASE)
UNIT_AFTER = re.compile(rf" ?(?P<unit>{UNIT})(?![\w/])")
CLAUSE = re.compile(r"[.;!?](?:\s|$)|,\s|\||\n|\s(?:and|und|with)\s|\s[–—]\s")
WORD = re.compile(r"[a-z][a-z0-9]*|\d+")
PERCENTILE = re.compile(r"p\d\d+")
"""A p95 is never advised where a p50 is spoken of."""
ALIKE = {
    "tuned": "training",
    "tuning": "training",
    "finetuned": "training",
    "trained": "training",
    "train": "training",
    "rps": "throughput",
    "qps": "throughput",
    "requests": "throughput",
    "throughput": "throughput",
    "vector": "vectors",
    "retrieval": "search",
    "embeddings": "indexed",
    "api": "chat",
    "latency": "chat",
    "rank": "r",
}
"""Words of résumés → the words that records use for the same thing."""
STOP = {"a", "an", "the", "of", "to", "at", "in", "on", "by", "for", "is", "was", "one", "s", "ms", "all", "new", "old"}


@dataclass(frozen=True)
class Find:
    """A placeholder or an unbound figure, and the record that could replace it."""

    place: str
    """`file:line`, or `file:cell 3:line` in a notebook."""
    what: str
    kind: str
    record: Record | None

    def __str__(self) -> str:
        advice = f"{self.record.id} = {format_value(self.record)}" if self.record else "no record of the run fits"
        return f"{self.place}: {self.kind} {self.what!r} -> {advice}"


def scan(file: Path, records: Sequence[Record]) -> list[Find]:
    """Every find of a file, in its order. Raises `RunError` for what is neither text nor a notebook."""
    measured = [record for record in records if record.status == "measured"]
    finds: list[Find] = []
    for place, text, is_code in _parts(file):
        finds += _scan_text(place, text, is_code, _Matcher(measured))
    return finds


def _scan_text(place: str, text: str, is_code: bool, matcher: "_Matcher") -> Iterator[Find]:
    blanked = prose(text)
    lines = blanked.splitlines()
    found = [
        (number, match.start(), match[0], "placeholder", "")
        for number, line in enumerate(text.splitlines() if is_code else lines, start=1)
        for match in PLACEHOLDER.finditer(line)
        if not is_code or re.fullmatch(WORDS, match[0])
    ]
    if not is_code:
        found += [(f.line, f.column, f.text, "unbound figure", f.unit) for f in find_unbound_numbers(text)]
    for number, column, what, kind, unit in sorted(found):
        line = lines[number - 1] if number <= len(lines) else ""
        if not unit and (after := UNIT_AFTER.match(line, column + len(what))):
            unit = UNITS[after["unit"]]
        yield Find(f"{place}:{number}", what, kind, matcher.best(clause(line, column, len(what)), unit))


def clause(line: str, column: int, length: int) -> str:
    """The words around a place of a line, up to the nearest stops, commas or bars."""
    begin = max((match.end() for match in CLAUSE.finditer(line, 0, column)), default=0)
    end = next((match.start() for match in CLAUSE.finditer(line, column + length)), len(line))
    return line[begin:end]


class _Matcher:
    """Which record a clause speaks of: rare words in common weigh more."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = [(record, _words(f"{record.id} {record.title}")) for record in records]
        self._known = Counter(word for _, words in self._records for word in words)

    def best(self, words: str, unit: str) -> Record | None:
        """The record with that unit (any, where it is empty) that shares the most with the words."""
        wanted = _words(words)
        percentiles = set(filter(PERCENTILE.fullmatch, wanted))
        scored = [
            (sum(self._weight(word) for word in wanted & mine) - 0.01 * len(mine), record)
            for record, mine in self._records
            if (not unit or record.unit == unit) and (not percentiles or percentiles & mine)
        ]
        score, record = max(scored, key=lambda pair: pair[0], default=(0.0, None))
        return record if score > 0 else None

    def _weight(self, word: str) -> float:
        return math.log1p(len(self._records) / self._known[word]) if self._known[word] else 0.0


def _words(text: str) -> set[str]:
    words = {ALIKE.get(word, word) for word in WORD.findall(text.lower().replace("-", " "))}
    return words - STOP


def _parts(file: Path) -> Iterator[tuple[str, str, bool]]:
    """Place, text and whether it is code; a notebook's cells one by one."""
    text = read_markdown(file)
    if file.suffix != ".ipynb":
        yield str(file), text, False
        return
    try:
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    except (ValueError, LookupError, TypeError) as error:
        raise RunError(f"{file} is not a notebook ({error!r}). Expected nbformat 4 JSON.") from error
    for number, (kind, source) in enumerate(cells, start=1):
        yield f"{file}:cell {number}", source, kind == "code"
