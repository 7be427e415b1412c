"""Check what a run's pages and executed notebooks show: each number must be what its record says.

A bound number (`claim_syntax`) must equal the text of its record. A number that looks measured but is not bound must
equal some record. Standard library only: `bankllm verify` and every run's own `verify.py` share this code.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from bankllm.errors import RunError
from bankllm.evidence.claim_syntax import find_tokens
from bankllm.evidence.format import PARTS, describe_how, format_interval, format_part, format_value
from bankllm.evidence.unbound_numbers import find_unbound_numbers
from bankllm.evidence.verification.json_schema import parse_json
from bankllm.evidence.verification.record_checks import Finding, RecordDocument, broken, read_text

PAGES = ("RESULTS.md", "RESULTS.html", "RESUME.md")
FROM_ELSEWHERE = re.compile(r"conditions|hardware|reported by others", re.IGNORECASE)
"""Headings of sections whose figures were not measured in this run; their bound numbers are checked all the same."""
HEADING = re.compile(r"#{1,6} (.*)")


class PageChecker:
    """What the records of a run may look like on a page."""

    def __init__(self, records: Sequence[RecordDocument]) -> None:
        self.records: Mapping[str, RecordDocument] = {record.id: record for record in records}
        phrases = (
            phrase
            for record in records
            for phrase in (
                format_value(record),
                format_interval(record),
                record.title,
                record.invalid_because or "",
                describe_how(record),
            )
        )
        self.figures = {figure.text for phrase in set(phrases) for figure in find_unbound_numbers(phrase)}

    def faults_of_tokens(self, text: str) -> Iterator[str]:
        """Bound numbers that do not read as their records."""
        for token in find_tokens(text):
            record = self.records.get(token.id)
            if record is None or token.part not in PARTS:
                yield f"line {token.line}: {token.id} is no record of this run"
            elif token.text != (expected := format_part(record, token.part)):
                yield f"line {token.line}: {token.id} says {token.text!r}, the record {expected!r}"

    def faults_of_figures(self, text: str) -> Iterator[str]:
        """Figures that are neither bound nor any record's."""
        elsewhere = _lines_from_elsewhere(text)
        for figure in find_unbound_numbers(text):
            if figure.text not in self.figures and figure.line not in elsewhere:
                yield f"line {figure.line}: {figure.text!r} is no record's"


def check_pages(folder: Path, names: Sequence[str], records: Sequence[RecordDocument]) -> list[Finding]:
    """A finding for each page and notebook among the files of the run."""
    shown = PageChecker(records)
    findings = []
    for name in names:
        if name in PAGES:
            faults = _faults_of_page
        elif name.startswith("notebooks/") and name.endswith(".ipynb"):
            faults = _faults_of_notebook
        else:
            continue
        try:
            found = list(faults(read_text(folder, name), shown))
        except RunError as error:
            found = [str(error)]
        findings += [broken(name, problem) for problem in found]
        if not found:
            findings.append(Finding(name, "ok", "every number that it shows is a record's"))
    return findings


def _faults_of_page(text: str, shown: PageChecker) -> Iterator[str]:
    yield from shown.faults_of_tokens(text)
    yield from shown.faults_of_figures(_as_markdown(text) if text.lstrip().startswith("<!doctype html>") else text)


def _as_markdown(page: str) -> str:
    """The words of an HTML page, a line for each block; bound numbers, which were checked, are left out."""
    page = re.sub(r"<(style|script)\b.*?</\1>|<data class=\"claim\".*?</data>", " ", page, flags=re.DOTALL)
    page = re.sub(r"<h[1-6][^>]*>(.*?)</h[1-6]>", r"\n\n## \1\n\n", page, flags=re.DOTALL)
    page = re.sub(r"</(?:tr|p|li|div|thead|table)>", "\n", page)
    return html.unescape(re.sub(r"<[^!][^>]*>", " ", page))


def _lines_from_elsewhere(text: str) -> set[int]:
    lines: set[int] = set()
    elsewhere = False
    for number, line in enumerate(text.splitlines(), start=1):
        if heading := HEADING.match(line):
            elsewhere = bool(FROM_ELSEWHERE.search(heading[1]))
        if elsewhere:
            lines.add(number)
    return lines


def _faults_of_notebook(text: str, shown: PageChecker) -> Iterator[str]:
    """What the tables of `Run.table` and Markdown outputs show."""
    try:
        cells = parse_json(text)["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        bundles = [output["data"] for output in outputs if "data" in output]
        parts = [{kind: _joined(part) for kind, part in bundle.items()} for bundle in bundles]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        yield f"is not a notebook ({error!r})"
        return
    for bundle in parts:
        yield from _faults_of_page(bundle.get("text/markdown", ""), shown)
        tables = _Tables.of(bundle.get("text/html", ""))
        for table in tables:
            yield from _faults_of_table(table, shown)
        if any(_columns(table) for table in tables):
            yield from shown.faults_of_figures(bundle.get("text/plain", ""))


def _joined(part: Any) -> str:
    return "".join(part) if isinstance(part, list) else part if isinstance(part, str) else ""


def _columns(table: list[list[str]]) -> dict[str, int]:
    """Name → place of the columns of a table that `Run.table` made; empty for any other table."""
    if len(table) > 1 and "what" in table[0] and table[1][0] == "id":
        return {name: i for i, name in enumerate(table[0]) if name}
    return {}


def _faults_of_table(table: list[list[str]], shown: PageChecker) -> Iterator[str]:
    columns = _columns(table)
    for row in table[2:] if columns else ():
        if set(row) <= {"...", "…"}:
            continue  # pandas leaves out the middle of a long table
        if (record := shown.records.get(row[0])) is None:
            yield f"shows {row[0]}, which is no record of this run"
            continue
        expected = {
            "what": record.title,
            "value": format_value(record),
            "95 % interval": format_interval(record),
            "n": str(record.n),
            "status": "not measured" if record.raw is None else "measured" if record.valid else "invalid",
        }
        for name, place in columns.items():
            if name in expected and not _reads(row[place] if place < len(row) else "", expected[name]):
                yield f"shows {name} {row[place : place + 1]} of {record.id}, the record says {expected[name]!r}"


def _reads(cell: str, expected: str) -> bool:
    """pandas cuts long texts short with three dots."""
    expected = " ".join(expected.split())
    return cell == expected or (len(cell) > 40 and cell.endswith("...") and expected.startswith(cell[:-3].rstrip()))


class _Tables(HTMLParser):
    """The tables of an HTML fragment, as lists of rows of cells' texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._inside = False

    @classmethod
    def of(cls, fragment: str) -> list[list[list[str]]]:
        parser = cls()
        parser.feed(fragment)
        parser.close()
        return [[[" ".join(cell.split()) for cell in row] for row in table if row] for table in parser.tables]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th") and self.tables and self.tables[-1]:
            self.tables[-1][-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr", "table"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.tables[-1][-1][-1] += data
