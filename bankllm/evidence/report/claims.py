"""Bind numbers in Markdown to records: `<!-- claim: chat.sequential.p95_ms -->12.3 ms<!-- /claim -->`.

`bankllm claims README.md` checks every bound number against a run; `--write` fills them in. A file may name its run
once (`<!-- claims-run: outputs/reference profile=quick -->`, relative to the file), and a claim may carry conditions
that its record must fulfil (`<!-- claim: ID dataset=banking77 -->`).
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.claim_syntax import CLAIM, RUN, Token, find_tokens, parse_conditions
from bankllm.evidence.format import PARTS, format_part
from bankllm.evidence.records import Record, read_records, write_text


def check_claims(file: Path, folder: Path) -> list[str]:
    """One line for each claim that its record does not bear out: value, interval, n, conditions, data set.

    Whether the records themselves hold is `verify`'s to say; `audit_claims` asks it too.
    """
    text = read_markdown(file)
    measured = _measured(folder)
    everywhere = run_named_in(text)[1]
    return [
        f"{file}:{token.line}: {fault}"
        for token in find_tokens(text)
        for fault in _faults(token, measured, everywhere, text.splitlines()[token.line - 1], folder.name)
    ]


def write_claims(file: Path, folder: Path) -> int:
    """Fill every claim from its record, and the file's `claims-run` with the run; returns how many claims.

    Raises `RunError` if one has no valid record or its record breaks a condition; nothing is written then.
    """
    measured = _measured(folder)
    text = read_markdown(file)
    everywhere = run_named_in(text)[1]
    tokens = list(find_tokens(text))
    if unknown := sorted({token.id for token in tokens} - set(measured)):
        raise RunError(f"{file}: run {folder.name} has no valid record for {', '.join(unknown)}. Nothing was written.")
    if unfit := [fault for token in tokens for fault in _unfit(token, measured[token.id], everywhere)]:
        raise RunError(f"{file}: {'; '.join(unfit)}. Nothing was written.")

    def fill(match: re.Match[str]) -> str:
        return f"{match['open']}{format_part(measured[match['id']], match['part'] or '')}{match['close']}"

    filled, count = CLAIM.subn(fill, text)
    place = Path(os.path.relpath(folder.resolve(), file.parent.resolve())).as_posix()
    filled = RUN.sub(lambda match: f"<!-- claims-run: {place}{match['conditions']} -->", filled)
    write_text(file, filled)
    return count


def run_named_in(text: str) -> tuple[str, str]:
    """The run that a file names for its claims, and the conditions that hold for all of them; empty where none."""
    match = RUN.search(text)
    return (match["run"], match["conditions"]) if match else ("", "")


def read_markdown(file: Path) -> str:
    """Raises `RunError` for what is not UTF-8 text."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{file} cannot be read as UTF-8 text ({error}). Expected a Markdown file.") from error


def _faults(token: Token, measured: Mapping[str, Record], everywhere: str, line: str, run: str) -> Iterator[str]:
    record = measured.get(token.id)
    if record is None:
        yield f"{token.id} is not measured (or not valid) in run {run}"
        return
    unfit = list(_unfit(token, record, everywhere))
    yield from unfit
    if token.part in PARTS and token.text != (shown := format_part(record, token.part)):
        yield f"{token.id} says {token.text!r}, the record {shown!r}"
    dataset = str(record.conditions.get("dataset", ""))
    if not unfit and dataset.startswith("teller77") and "banking77" in line.lower() and "teller77" not in line.lower():
        yield f"{token.id} was measured on {dataset}, and its line speaks of Banking77"


def _unfit(token: Token, record: Record, everywhere: str) -> Iterator[str]:
    """What the claim asks of its record and the record does not fulfil."""
    if token.part not in PARTS:
        yield f"{token.id}#{token.part}: expected #ci95, #n, or no part"
    try:
        wanted = parse_conditions(everywhere) | parse_conditions(token.conditions)
    except ValueError as error:
        yield f"{token.id}: {error}"
        return
    for name, value in wanted.items():
        if (found := str(record.conditions.get(name))) != value:
            yield f"{token.id} claims {name}={value}, the record has {name}={found}"


def _measured(folder: Path) -> dict[str, Record]:
    return {record.id: record for record in read_records(folder) if record.status == "measured"}
