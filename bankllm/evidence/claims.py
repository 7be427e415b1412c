"""Bind numbers in Markdown to records: `<!-- claim: chat.sequential.p95_ms -->12.3 ms<!-- /claim -->`.

`bankllm claims README.md` checks every bound number against a run; `--write` fills them in.
"""

import re
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.records import Record, read_records, write_text
from bankllm.evidence.words import show_value

CLAIM = re.compile(r"(<!-- claim: (?P<id>[\w.@-]+) -->)(?P<text>.*?)(<!-- /claim -->)", re.DOTALL)


def check_claims(file: Path, folder: Path) -> list[str]:
    """One line for each claim that its record does not bear out."""
    records = _measured(folder)
    faults = []
    for match in CLAIM.finditer(_read(file)):
        line = match.string.count("\n", 0, match.start()) + 1
        record = records.get(match["id"])
        if record is None:
            faults.append(f"{file}:{line}: {match['id']} is not measured (or not valid) in run {folder.name}")
        elif match["text"] != show_value(record):
            faults.append(f"{file}:{line}: {match['id']} says {match['text']!r}, the record {show_value(record)!r}")
    return faults


def write_claims(file: Path, folder: Path) -> int:
    """Fill every claim from its record; returns how many. Raises `RunError` if one has no valid record."""
    records = _measured(folder)
    text = _read(file)
    unknown = sorted({match["id"] for match in CLAIM.finditer(text)} - set(records))
    if unknown:
        raise RunError(f"{file}: run {folder.name} has no valid record for {', '.join(unknown)}. Nothing was written.")
    filled, count = CLAIM.subn(lambda match: f"{match[1]}{show_value(records[match['id']])}{match[4]}", text)
    write_text(file, filled)
    return count


def _measured(folder: Path) -> dict[str, Record]:
    return {record.id: record for record in read_records(folder) if record.status == "measured"}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{file} cannot be read as UTF-8 text ({error}). Expected a Markdown file.") from error
