"""Check the numbers on the pages and in the executed notebooks of a run against its records.

A number with a claim (`claim_syntax`) must equal the text of its record. A number that looks measured but has no claim
must occur in the text of some record. Standard library only: this module is part of the `verify.py` that every run
contains.
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
EXTERNAL_HEADING = re.compile(r"conditions|hardware|reported by others", re.IGNORECASE)
"""Headings of sections whose numbers were not measured in this run. Claims in them are checked, too."""
HEADING = re.compile(r"#{1,6} (.*)")


class PageChecker:
    """Finds numbers in a text that do not agree with the records of a run."""

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
        self.numbers = {number.text for phrase in set(phrases) for number in find_unbound_numbers(phrase)}
        """Every number that the text of a record contains."""

    def claim_faults(self, text: str) -> Iterator[str]:
        """Yields the claims that differ from their records, or name no record."""
        for token in find_tokens(text):
            record = self.records.get(token.id)
            if record is None or token.part not in PARTS:
                yield f"line {token.line}: this run has no record {token.id}"
            elif token.text != (expected := format_part(record, token.part)):
                yield f"line {token.line}: {token.id}: expected {expected!r}, as in the record, found {token.text!r}"

    def unbound_faults(self, text: str) -> Iterator[str]:
        """Yields the numbers without a claim that no record contains, except in sections about external numbers."""
        external = _external_lines(text)
        for number in find_unbound_numbers(text):
            if number.text not in self.numbers and number.line not in external:
                yield f"line {number.line}: no record has the value {number.text!r}"


def check_pages(folder: Path, names: Sequence[str], records: Sequence[RecordDocument]) -> list[Finding]:
    """Returns findings for each page and notebook among the files `names` of the run; one `ok` if it has no fault."""
    checker = PageChecker(records)
    findings = []
    for name in names:
        if name in PAGES:
            faults_of = _page_faults
        elif name.startswith("notebooks/") and name.endswith(".ipynb"):
            faults_of = _notebook_faults
        else:
            continue
        try:
            faults = list(faults_of(read_text(folder, name), checker))
        except RunError as error:
            faults = [str(error)]
        findings += [broken(name, fault) for fault in faults]
        if not faults:
            findings.append(Finding(name, "ok", "every number agrees with a record"))
    return findings


def _page_faults(text: str, checker: PageChecker) -> Iterator[str]:
    yield from checker.claim_faults(text)
    yield from checker.unbound_faults(_as_markdown(text) if text.lstrip().startswith("<!doctype html>") else text)


def _as_markdown(page: str) -> str:
    """Returns the text of an HTML page, one line per block, without the claims, which are checked separately."""
    page = re.sub(r"<(style|script)\b.*?</\1>|<data class=\"claim\".*?</data>", " ", page, flags=re.DOTALL)
    page = re.sub(r"<h[1-6][^>]*>(.*?)</h[1-6]>", r"\n\n## \1\n\n", page, flags=re.DOTALL)
    page = re.sub(r"</(?:tr|p|li|div|thead|table)>", "\n", page)
    return html.unescape(re.sub(r"<[^!][^>]*>", " ", page))


def _external_lines(text: str) -> set[int]:
    """Returns the numbers of the lines in sections with an `EXTERNAL_HEADING`."""
    lines: set[int] = set()
    external = False
    for number, line in enumerate(text.splitlines(), start=1):
        if heading := HEADING.match(line):
            external = bool(EXTERNAL_HEADING.search(heading[1]))
        if external:
            lines.add(number)
    return lines


def _notebook_faults(text: str, checker: PageChecker) -> Iterator[str]:
    """Yields the faults in the Markdown outputs and in the tables of `Run.table`."""
    try:
        cells = parse_json(text)["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        bundles = [output["data"] for output in outputs if "data" in output]
        parts = [{kind: _joined(part) for kind, part in bundle.items()} for bundle in bundles]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        yield f"is not a valid notebook ({error!r})"
        return
    for bundle in parts:
        yield from _page_faults(bundle.get("text/markdown", ""), checker)
        tables = _Tables.of(bundle.get("text/html", ""))
        for table in tables:
            yield from _table_faults(table, checker)
        if any(_columns(table) for table in tables):
            yield from checker.unbound_faults(bundle.get("text/plain", ""))


def _joined(part: Any) -> str:
    """Returns the text of a notebook output, which is a string or a list of strings; empty for anything else."""
    return "".join(part) if isinstance(part, list) else part if isinstance(part, str) else ""


def _columns(table: list[list[str]]) -> dict[str, int]:
    """Returns column name → index for a table that `Run.table` made; empty for any other table."""
    if len(table) > 1 and "what" in table[0] and table[1][0] == "id":
        return {name: i for i, name in enumerate(table[0]) if name}
    return {}


def _table_faults(table: list[list[str]], checker: PageChecker) -> Iterator[str]:
    columns = _columns(table)
    for row in table[2:] if columns else ():
        if set(row) <= {"...", "…"}:
            continue  # pandas omits the middle rows of a long table
        if (record := checker.records.get(row[0])) is None:
            yield f"shows {row[0]}, but this run has no such record"
            continue
        expected = {
            "what": record.title,
            "value": format_value(record),
            "95 % interval": format_interval(record),
            "n": str(record.n),
            "status": "not measured" if record.raw is None else "measured" if record.valid else "invalid",
        }
        for name, place in columns.items():
            cell = row[place] if place < len(row) else ""
            if name in expected and not _shows(cell, expected[name]):
                yield f"{name} of {record.id}: expected {expected[name]!r}, as in the record, found {cell!r}"


def _shows(cell: str, expected: str) -> bool:
    """Returns whether a cell shows the text; pandas truncates a long text and appends three dots."""
    expected = " ".join(expected.split())
    return cell == expected or (len(cell) > 40 and cell.endswith("...") and expected.startswith(cell[:-3].rstrip()))


class _Tables(HTMLParser):
    """Extracts the tables of an HTML fragment as lists of rows, each a list of cell texts."""

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
