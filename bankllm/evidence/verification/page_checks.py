"""Check the numbers on the pages and in the executed notebooks of a run against its records.

Every number that is bound to a record must equal the text of the record: a claim (`claim_syntax`) on a page or in the
Markdown output of a notebook, and a row of a table that `Run.table` displayed.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.claim_syntax import find_tokens
from bankllm.evidence.documents import Record
from bankllm.evidence.format import PARTS, format_interval, format_part, format_value
from bankllm.evidence.verification.record_checks import Finding, broken, read_text

PAGES = ("RESULTS.md", "RESULTS.html", "RESUME.md")
COLUMNS = ("what", "value", "95 % interval", "n", "status")
"""Columns of `Run.table` after the id."""
CELL = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>", re.DOTALL)


def check_pages(folder: Path, names: Sequence[str], records: Sequence[Record]) -> list[Finding]:
    """Returns findings for each page and notebook among the files `names` of the run; one `ok` if it has no fault."""
    by_id = {record.id: record for record in records}
    findings = []
    for name in names:
        notebook = name.startswith("notebooks/") and name.endswith(".ipynb")
        if not notebook and name not in PAGES:
            continue
        try:
            text = read_text(folder, name)
            faults = list(_notebook_faults(text, by_id) if notebook else claim_faults(text, by_id))
        except RunError as error:
            faults = [str(error)]
        findings += [broken(name, fault) for fault in faults]
        if not faults:
            findings.append(Finding(name, "ok", "every number agrees with a record"))
    return findings


def claim_faults(text: str, records: Mapping[str, Record]) -> Iterator[str]:
    for token in find_tokens(text):
        record = records.get(token.id)
        if record is None or token.part not in PARTS:
            yield f"line {token.line}: this run has no record {token.id}"
        elif token.text != (expected := format_part(record, token.part)):
            yield f"line {token.line}: {token.id}: expected {expected!r} as in the record, found {token.text!r}"


def _notebook_faults(text: str, records: Mapping[str, Record]) -> Iterator[str]:
    try:
        outputs = [output for cell in json.loads(text)["cells"] for output in cell.get("outputs", ())]
        parts = [(kind, "".join(part)) for o in outputs for kind, part in o.get("data", {}).items() if "text" in kind]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        yield f"is not a valid notebook ({error!r})"
        return
    for kind, part in parts:
        if kind == "text/markdown":
            yield from claim_faults(part, records)
        elif kind == "text/html":
            for table in part.split("<table")[1:]:
                yield from _table_faults(table, records)


def _table_faults(table: str, records: Mapping[str, Record]) -> Iterator[str]:
    """Yields the faults of a table that `Run.table` made: its second header row is `id` and empty cells."""
    rows = [[" ".join(html.unescape(cell).split()) for cell in CELL.findall(row)] for row in table.split("<tr")[1:]]
    if [row[:1] for row in rows[:2]] != [[""], ["id"]] or "what" not in rows[0]:
        return
    for id, *cells in filter(None, rows[2:]):
        if {id, *cells} <= {"...", "…"}:
            continue  # pandas omits the middle rows of a long table
        if (record := records.get(id)) is None:
            yield f"shows {id}, but this run has no such record"
            continue
        shown = (record.title, format_value(record), format_interval(record), str(record.n), record.status)
        expected = dict(zip(COLUMNS, shown, strict=True))
        for name, cell in zip(rows[0][1:], cells, strict=False):
            text = " ".join(expected.get(name, cell).split())
            cut = len(cell) > 40 and cell.endswith("...") and text.startswith(cell[:-3].rstrip())  # by pandas
            if cell != text and not cut:
                yield f"{name} of {id}: expected {text!r} as in the record, found {cell!r}"
