"""Find numbers in prose that look measured but have no claim, and placeholders for such numbers.

`bankllm claims --check README.md` searches the results sections, `bankllm claims --scan resume.tex` the whole document
(Markdown, plain text, LaTeX or a notebook), also for placeholders. Claims, code, comments and URLs are not prose.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bankllm.errors import RunError, explained
from bankllm.evidence.prose import CODE, blank, prose_of, without_markup

WORDS = (
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|seventy|eighty|"
    "ninety|hundred|thousand|million"
)
UNIT = (
    r"(?P<unit>(?i:milliseconds?|m?secs?|microseconds?|seconds?|minutes?|mins?|hours?|hrs?|per ?cent|pct|fold|"
    r"[rqf]ps|percentage points?|pp|pts|bps|(?:[a-z]+[ -]){0,2}(?:per|an?)[ -](?:second|minute|hour|day)|[a-z]+ daily|"
    r"(?:kilo|mega|giga|tera|[kmgt]i?)?bytes?|orders? of magnitude|"
    r"times(?= (?:as|faster|slower|more|less|higher|lower|smaller|larger|fewer|better)\b))|"
    r"ms|[µμ]s|us|s|h|[%％‰]|[A-Za-z]+/(?:s(?:ec|econd)?|min(?:ute)?|h(?:our)?|day|op)|[kKMGT]i?B|k?Wh?|×|x)"
    r"(?:/[a-z]+)?(?![\w/])"
)
"""Units of time, share, rate, size, energy and ratio as prose writes them."""
DIGITS = r"(?:\d+(?:[,.' \u00a0\u2009\u202f]\d{3}(?!\d))*(?:[.,]\d+)?|\.\d+)(?:[eE][+-]?\d+|[kKM]?\+?(?= ))?"
NUMERAL = rf"(?i:(?:{WORDS})(?:[ -](?:and )?(?:{WORDS})){{0,5}}+(?:\b|(?=fold)))"
GAP = r"(?:[ \u00a0\u2009\u202f]{0,25}+|-)"
NUMBER = re.compile(
    rf"(?:(?<![\w.,/-])|(?<=\d/)|(?<=\d[hm]))(?:[~≈<>≤≥] ?|[+−-])?(?!(?:19|20)\d0s\b)(?:{DIGITS}|{NUMERAL})"
    rf"(?: ?(?:[–—±→/-]|->|\+/-|to) ?(?:{DIGITS}|{NUMERAL})){{0,3}}{GAP}{UNIT}"
)
METRIC_NAME = (
    r"(?i:accuracy|f1|recall|precision|r(?=@)|ndcg|mrr|auc|brier|ece|kappa|κ|bleu|rouge(?:-\w)?|perplexity|loss|r(?:²|\^2)"
    r"|scored?|errors?|difference|p(?= ?<))(?:@\d+)?(?:-value)?"
)
DECIMAL = r"(?:\d*\.\d+|0,\d+|\d(?=e-))(?:e-?\d+)?(?![\d.]*\d)"
LINK = r"[ :=<>≈~(\[→]{1,30}"
METRIC = re.compile(
    rf"\b{METRIC_NAME}(?:{LINK}(?!(?:in|with|version|section|threshold)\b)[a-z]+){{0,7}}{LINK}"
    rf"(?P<figure>{DECIMAL}(?:(?:,| to| and| ?[–→±]) ?{DECIMAL})*)"
)
"""A measured quantity without a unit, a few words before its value."""
PART = r"(?:half|(?:an?|one|two|three) (?:third|quarter|fifth|tenth)s?|[½⅓⅔¼¾]|\d/\d)"
RESOURCE = r"(?:memory|latency|time|size|costs?|throughput|speed|accuracy|errors?|energy)"
FIGURES = (
    NUMBER,
    METRIC,
    re.compile(rf"(?<![\w.]){DECIMAL} (?:{METRIC_NAME}|points)\b"),
    re.compile(rf"(?<![\w.]){DECIMAL} *\(?(?:±|\+/-) *{DECIMAL}\)?"),
    re.compile(rf"(?i)\b(?:{WORDS}) (?:in|out of) (?:every |a )?(?!one|two)(?:{WORDS})\b"),
    re.compile(r"(?i)\b(?:in|took|takes|after) (?P<figure>\d+:\d\d:\d\d)\b"),
    re.compile(r"[$€£](?:0?\.\d+|\d+[kKM]\b)|(?<![\w.])0\.\d+ (?:USD|EUR|GBP)\b"),
    re.compile(r"\b\d+[kKM]\+? (?=users|customers|requests|messages)"),
    re.compile(
        r"(?i)\b(?:twice|double|half) as [a-z]+|\ban order of magnitude|\b(?:zero|0) (?:failed|failures|errors)\b"
    ),
    re.compile(
        rf"(?i){PART} +(?:of )?(?:the |its )?(?:[a-z]+ )?{RESOURCE}\b|\b{RESOURCE} (?:doubled|tripled|halved)\b"
    ),
    re.compile(
        rf"(?i)\b(?:halv|doubl|tripl)(?:es|ed|ing) (?:the |its |our )?{RESOURCE}\b"
        rf"|\b(?:twice|double|half) the {RESOURCE}\b"
        rf"|\b{RESOURCE} (?:drops|dropped|falls|fell|rises|rose|grows|grew) by {PART}\b"
    ),
    re.compile(
        r"(?i)\bsub-?(?:milli|micro)?second\b|\b(?:under|below|within) an? (?:tenth of a )?(?:milli|micro)?second\b"
        r"|\b(?:two|three|four|five|six) nines\b"
        r"|(?<![\w.,])\d+ (?:in|out of) (?:1?0|100|1,?000|10,?000|a million)\b(?!,?\d)"
    ),
)
"""Spellings of a measured figure. The group `figure` is the figure, if it is not the whole match."""
SHARE = re.compile(
    r"(?<![\w.,/-])(?<!(?i:step|page|part) )(?!(?:19|20)\d\d/)"
    r"(?P<part>[1-9]\d*)(?: ?/ ?| (?:out )?of )(?!(?:19|20)\d\d\b)(?P<whole>[1-9]\d+)(?![\w/-]|\.\d)"
)
"""240/246; the part is at most the whole, unlike 24/7."""
SEPARATOR, CELL = re.compile(r"[|&]|\\\\"), re.compile(r"(?:[^|&\\]+|\\(?!\\))+")
LABEL = re.compile(rf"[(\[,/] ?{UNIT}[)\]]?$|^{METRIC_NAME}(?: score)?$")
"""A cell that names what the numbers below or beside it are."""
NUMERIC_CELL, DECIMAL_CELL = re.compile(r"\W*\d[\d.,]*\W*"), re.compile(r"\W*\d*\.\d+\W*")
SETTING = re.compile(r"\b(?i:time[sd]? ?out|expires?|retry|limit(?:ed|s)?)(?: (?:after|to|of|in|is))* ?$")
"""Text before a number that someone chose."""
CONVENTION = re.compile(r"(?<=[%t]) ?(?:confidence\b|intervals?\b|CI\b)|(?<=[×x]) ?\d")
"""Text after a number that is no measurement: the 95 % of an interval, the × of dimensions (15,000 × 384)."""
HEADING = re.compile(
    r"^ {0,3}(?P<marks>#{1,6})[ \t]+(?P<title>.*)$|<h(?P<html>[1-6])\b[^>]*>(?P<heading>.*?)</h"
    r"|\\(?P<section>chapter|(?:sub)*section|paragraph)\*?\{(?P<name>[^}]*)\}",
    re.IGNORECASE,
)
UNDERLINE = re.compile(r"^ {0,3}(=+|-{2,})[ \t]*$")
BOLD_LINE = re.compile(r"^ {0,3}(?:\*\*|__)(?P<title>[^*_|]+?):?(?:\*\*|__):?[ \t]*$")
LATEX_LEVELS = {"chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4, "paragraph": 5}
RESULTS_HEADING = re.compile(
    r"\b(?:results?|figures|performance|measured|measurements?|benchmarks?|evaluation|metrics)\b", re.IGNORECASE
)
RESULTS_BEGIN, RESULTS_END = "<!-- results -->", "<!-- /results -->"
NOT_MEASURED_HERE = re.compile(r"<!-- not measured here: [^>]+ -->")
MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
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
    labels: list[str] = []
    for number, line in enumerate(without_markup(prose_of(text)).split("\n"), start=1):
        cells = list(CELL.finditer(line)) if SEPARATOR.search(line) else []
        labels = (labels or [cell[0].strip() for cell in cells]) if cells else []
        if number in exempt:
            continue
        end = 0
        spans = {*_figures(line), *_figures_in_cells(labels, cells)}
        for start, stop in sorted(spans, key=lambda span: (span[0], -span[1])):
            if start >= end:
                end = stop
                yield UnboundNumber(number, start, " ".join(line[start:stop].split()))


def _figures(line: str) -> Iterator[tuple[int, int]]:
    for pattern in FIGURES:
        for match in pattern.finditer(line):
            if not (CONVENTION.match(line, match.end()) or SETTING.search(line[: match.start()])):
                yield match.span("figure" if "figure" in pattern.groupindex else 0)
    yield from (match.span() for match in SHARE.finditer(line) if int(match["part"]) <= int(match["whole"]))


def _figures_in_cells(labels: list[str], cells: list[re.Match[str]]) -> Iterator[tuple[int, int]]:
    """Yields the numbers with a label in their column or row, and those of a row with more than one decimal number."""
    is_result = sum(bool(DECIMAL_CELL.fullmatch(cell[0])) for cell in cells) > 1
    for label, cell in zip(labels, cells, strict=False):
        named = any(map(LABEL.search, (label, cells[0][0].strip())))
        if (is_result and DECIMAL_CELL.fullmatch(cell[0])) or (named and NUMERIC_CELL.fullmatch(cell[0])):
            start = cell.start() + len(cell[0]) - len(cell[0].lstrip())
            yield start, start + len(cell[0].strip())


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
    """Reads a text file, with LF line ends and without a byte-order mark. Raises `RunError` as `decode_document`."""
    return decode_document(file)[0].removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def decode_document(file: Path) -> tuple[str, str]:
    """Reads a text file; returns all its characters, and the encoding: UTF-8, UTF-16 after its mark, or Windows-1252.

    Raises `RunError` if the file cannot be read or is not text.
    """
    advice = "Expected a text file in UTF-8; check the path."
    with explained(RunError, f"{file} cannot be read", advice, (OSError, ValueError)):
        content = file.read_bytes()
        encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            if encoding != "utf-8":
                raise
            text, encoding = content.decode("cp1252"), "cp1252"
        if "\0" in text:
            raise ValueError("it contains a NUL byte")
    return text, encoding


def _results_lines(text: str) -> set[int]:
    inside: set[int] = set()
    level, marked = 0, False
    lines = text.split("\n")
    for number, (line, visible) in enumerate(zip(lines, blank(text, CODE).split("\n"), strict=True), start=1):
        found = _heading(visible, lines[number] if number < len(lines) else "")
        if found and (not level or found[0] <= level):
            level = found[0] if RESULTS_HEADING.search(found[1]) else 0
        marked = (marked or RESULTS_BEGIN in line) and RESULTS_END not in line
        if level or marked:
            inside.add(number)
    return inside


def _heading(line: str, following: str) -> tuple[int, str] | None:
    """Returns level and title of a heading of Markdown, HTML or LaTeX, or of a line in bold (the lowest level)."""
    if match := HEADING.search(line):
        section = LATEX_LEVELS.get((match["section"] or "").lower(), 5)
        return len(match["marks"] or "") or int(match["html"] or section), match["title"] or match["heading"] or line
    if line.strip() and "|" not in line and (underline := UNDERLINE.match(following)):
        return 1 if underline[1].startswith("=") else 2, line
    return (7, bold["title"]) if (bold := BOLD_LINE.match(line)) else None


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
    for number, line in enumerate((text if is_code else prose_of(text)).split("\n"), start=1):
        for match in pattern.finditer(line):
            yield UnboundNumber(number, match.start(), match[0], "placeholder")


def _parts(file: Path) -> Iterator[tuple[str, str, bool]]:
    """Yields location, text and whether the text is code: one part per notebook cell, or the whole file."""
    text = read_document(file)
    if file.suffix != ".ipynb":
        yield str(file), text, False
        return
    with explained(RunError, f"{file} is not a notebook", "Expected JSON in the format nbformat 4."):
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    for number, (kind, source) in enumerate(cells, start=1):
        yield f"{file}:cell {number}", source, kind == "code"
