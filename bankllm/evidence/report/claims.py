"""Check or fill in the claims of a Markdown file: numbers that are bound to records of a run.

A claim looks like this: `<!-- claim: chat.sequential.p95_ms -->12.3 ms<!-- /claim -->`. `bankllm claims README.md`
compares every claim with its record; `--write` fills the claims in.

A file can name its run once, with a path relative to the file: `<!-- claims-run: outputs/reference profile=quick -->`.
A claim can state conditions that its record must fulfil: `<!-- claim: ID dataset=banking77 -->`. Conditions of
`claims-run` apply to all claims of the file.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.claim_syntax import CLAIM, RUN, Token, find_tokens, parse_conditions
from bankllm.evidence.format import PARTS, format_part
from bankllm.evidence.records import Record, read_records, write_text


def check_claims(file: Path, folder: Path) -> list[str]:
    """Compare the claims of a file with the records of the run in `folder`; returns one line per fault.

    Checked are the value, the interval, n, the conditions and the data set. The records themselves are not verified
    here; `audit_claims` does both. Raises `RunError` if the file is not UTF-8 text or the records cannot be read.
    """
    text = read_markdown(file)
    measured = _measured(folder)
    file_conditions = run_named_in(text)[1]
    faults = []
    for token in find_tokens(text):
        if record := measured.get(token.id):
            found = list(_faults(token, record, file_conditions, text.splitlines()[token.line - 1]))
        else:
            found = [f"run {folder.name} has no valid record for {token.id}"]
        faults += [f"{file}:{token.line}: {fault}" for fault in found]
    return faults


def write_claims(file: Path, folder: Path) -> int:
    """Fill in every claim from its record and `claims-run` with the path of the run; returns the number of claims.

    Raises `RunError` if a claim has no valid record or its record does not fulfil a condition. The file is then not
    changed.
    """
    measured = _measured(folder)
    text = read_markdown(file)
    file_conditions = run_named_in(text)[1]
    tokens = list(find_tokens(text))
    if unknown := sorted({token.id for token in tokens} - set(measured)):
        raise RunError(f"{file}: run {folder.name} has no valid record for {', '.join(unknown)}. Nothing was written.")
    if faults := [fault for token in tokens for fault in _condition_faults(token, measured[token.id], file_conditions)]:
        raise RunError(f"{file}: {'; '.join(faults)}. Nothing was written.")

    def fill(match: re.Match[str]) -> str:
        return f"{match['open']}{format_part(measured[match['id']], match['part'] or '')}{match['close']}"

    filled, count = CLAIM.subn(fill, text)
    run_path = Path(os.path.relpath(folder.resolve(), file.parent.resolve())).as_posix()
    write_text(file, RUN.sub(lambda match: f"<!-- claims-run: {run_path}{match['conditions']} -->", filled))
    return count


def run_named_in(text: str) -> tuple[str, str]:
    """The run named by the file's `claims-run`, and its conditions. Both are empty strings if the file names no run."""
    match = RUN.search(text)
    return (match["run"], match["conditions"]) if match else ("", "")


def read_markdown(file: Path) -> str:
    """Read a text file. Raises `RunError` if it cannot be read or is not UTF-8 text."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunError(f"{file} cannot be read ({reason}). Expected a text file in UTF-8; check the path.") from error


def _faults(token: Token, record: Record, file_conditions: str, line: str) -> Iterator[str]:
    condition_faults = list(_condition_faults(token, record, file_conditions))
    yield from condition_faults
    if token.part in PARTS and token.text != (expected := format_part(record, token.part)):
        yield f"{token.id}: expected {expected!r} as in the record, found {token.text!r}"
    dataset = str(record.conditions.get("dataset", ""))
    on_teller77 = dataset.startswith("teller77") and "teller77" not in line.lower()
    if not condition_faults and on_teller77 and "banking77" in line.lower():
        yield f"{token.id} was measured on {dataset}, but its line mentions Banking77"


def _condition_faults(token: Token, record: Record, file_conditions: str) -> Iterator[str]:
    """Conditions of the claim that its record does not fulfil, and an unknown part of the record."""
    if token.part not in PARTS:
        yield f"{token.id}#{token.part}: unknown part. Expected #ci95, #n, or no part"
    try:
        required = parse_conditions(file_conditions) | parse_conditions(token.conditions)
    except ValueError as error:
        yield f"{token.id}: {error}"
        return
    for name, value in required.items():
        if (found := str(record.conditions.get(name))) != value:
            yield f"{token.id}: the claim requires {name}={value}, the record has {name}={found}"


def _measured(folder: Path) -> dict[str, Record]:
    return {record.id: record for record in read_records(folder) if record.status == "measured"}
