"""Check the numbers and plots on the pages and in the executed notebooks of a run against its records and plots.

Every number that is bound to a record must equal the text of the record: a claim (`claim_syntax`) on a page or in the
Markdown output of a notebook, and a row of a table that `Run.table` displayed, as HTML or as text. A plot must be an
image of its notebook, and an image of a page must be a plot.
"""

import binascii
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bankllm.errors import RunError, explained
from bankllm.evidence.claim_syntax import find_tokens
from bankllm.evidence.documents import Record
from bankllm.evidence.format import PARTS, format_interval, format_part, format_value
from bankllm.evidence.verification.record_checks import Finding, broken, read_text

PAGES = ("RESULTS.md", "RESULTS.html", "RESUME.md")
COLUMNS = ("what", "value", "95 % interval", "n", "status")
"""Columns of `Run.table` after the id."""
CELL = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>", re.DOTALL)
TEXT_CELL = re.compile(r"(\S.*?)(\.\.\.)?(?: {2,}|$)")
ACTIVE = re.compile(r"<(?:script|iframe|object|embed|link|base)\b|\son\w+\s*=|javascript:", re.IGNORECASE)
"""What could change the numbers of a page after they were checked: scripts, and parts from elsewhere."""
IMAGE = re.compile(r"data:image/[\w+.-]+;base64,([^\"')\s>]*)")


def check_pages(folder: Path, hashes: Mapping[str, str], records: Sequence[Record]) -> list[Finding]:
    """Returns findings for each page and notebook of the run, one `ok` if it has no fault, and for each false plot.

    `hashes` has path → sha256 of the files of the run.
    """
    by_id = {record.id: record for record in records}
    plots = {name: sha256 for name, sha256 in hashes.items() if name.startswith("plots/") and name.endswith(".png")}
    findings = []
    for name in hashes:
        notebook = name.startswith("notebooks/") and name.endswith(".ipynb")
        if not notebook and name not in PAGES:
            continue
        try:
            text = read_text(folder, name)
            if notebook:
                outputs = _outputs(text)
                faults = [fault for output in outputs for fault in _output_faults(output, by_id)]
                shown = {_hash(output.get("image/png", "")) for output in outputs}
                mine = [plot for plot in plots if plot[6:9] == name[10:13]]  # the number, such as 01_
                findings += [broken(plot, f"is no image of {name}") for plot in mine if plots[plot] not in shown]
            else:
                faults = list(claim_faults(text, by_id))
                if not {_hash(image) for image in IMAGE.findall(text)} <= set(plots.values()):
                    faults.append("shows an image that is no file in plots/")
                if name.endswith(".html") and (active := ACTIVE.search(text)):
                    faults.append(f"has active content, {active[0].strip()!r}, which can change its numbers")
        except RunError as error:
            faults = [str(error)]
        findings += [broken(name, fault) for fault in faults]
        if not faults:
            findings.append(Finding(name, "ok", "every number that names a record agrees with it"))
    return findings


def claim_faults(text: str, records: Mapping[str, Record]) -> Iterator[str]:
    for token in find_tokens(text):
        record = records.get(token.id)
        if record is None or token.part not in PARTS:
            yield f"line {token.line}: this run has no record {token.id}"
        elif token.text != (expected := format_part(record, token.part)):
            yield f"line {token.line}: {token.id}: expected {expected!r} as in the record, found {token.text!r}"


def _hash(image: str) -> str:
    """Returns the sha256 of an image in base64; empty if it is none."""
    try:
        return hashlib.sha256(binascii.a2b_base64(image)).hexdigest()
    except ValueError:
        return ""


def _outputs(notebook: str) -> list[dict[str, str]]:
    """Returns the outputs of a notebook: MIME type → text. Raises `RunError` if it is not a notebook."""
    with explained(RunError, "is not a valid notebook", "Expected the format nbformat 4."):
        data = [output.get("data", {}) for cell in json.loads(notebook)["cells"] for output in cell.get("outputs", ())]
        kinds = ("text/plain", "text/html", "text/markdown", "image/png")
        return [{kind: "".join(bundle[kind]) for kind in kinds if kind in bundle} for bundle in data]


def _output_faults(output: Mapping[str, str], records: Mapping[str, Record]) -> Iterator[str]:
    yield from claim_faults(output.get("text/markdown", ""), records)
    tables = [_table_rows(table) for table in output.get("text/html", "").split("<table")[1:]]
    for names, *rows in filter(None, tables):
        for id, *cells in filter(None, rows):
            yield from _row_faults(id, dict(zip(names[1:], cells, strict=False)), records)
    for line in output.get("text/plain", "").splitlines() if any(tables) else ():
        id, _, rest = line.partition(" ")
        known = _shown(records[id]).values() if id in records else ()
        for cell, cut in TEXT_CELL.findall(rest.strip()) if known else ():
            if cell != "..." and not any(cell == text or (cut and text.startswith(cell)) for text in known):
                yield f"text of {id}: expected a part of its record, found {cell!r}"


def _table_rows(table: str) -> list[list[str]]:
    """Returns the names of the columns, which start with the id, and the rows of a table that `Run.table` made.

    Empty for another table. If the id is the index, pandas writes its name into a second header row.
    """
    rows = [[" ".join(html.unescape(cell).split()) for cell in CELL.findall(row)] for row in table.split("<tr")[1:]]
    if [row[:1] for row in rows[:2]] == [[""], ["id"]]:
        del rows[1]
    return rows if rows and rows[0][:1] in ([""], ["id"]) and "what" in rows[0] else []


def _row_faults(id: str, cells: Mapping[str, str], records: Mapping[str, Record]) -> Iterator[str]:
    if {id, *cells.values()} <= {"...", "…"}:
        return  # pandas omits the middle rows of a long table
    if (record := records.get(id)) is None:
        yield f"shows {id}, but this run has no such record"
        return
    expected = _shown(record)
    for name, cell in cells.items():
        text = expected.get(name, cell)
        cut = len(cell) > 40 and cell.endswith("...") and text.startswith(cell[:-3].rstrip())  # by pandas
        if cell != text and not cut:
            yield f"{name} of {id}: expected {text!r} as in the record, found {cell!r}"


def _shown(record: Record) -> dict[str, str]:
    """Returns the cells of a record in `Run.table`, with single spaces."""
    cells = (record.title, format_value(record), format_interval(record), str(record.n), record.status)
    return dict(zip(COLUMNS, (" ".join(cell.split()) for cell in cells), strict=True))
