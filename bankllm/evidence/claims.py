"""Check or fill in the claims of a Markdown, HTML or LaTeX file: numbers bound to records of a run (`claim_syntax`).

A file can name its run once, with a path relative to the file: `<!-- claims-run: outputs/reference profile=quick -->`.
The records must fulfil the conditions after the run and after the id of a claim.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from bankllm import __version__
from bankllm.errors import RunError
from bankllm.evidence.claim_syntax import INCOMPLETE, RUN, SYNTAXES, Token, find_tokens, parse_conditions
from bankllm.evidence.format import PARTS, format_part
from bankllm.evidence.manifest import MANIFEST, read_manifest
from bankllm.evidence.prose import CODE, blank, without_markup
from bankllm.evidence.record_rules import KNOWN_HASHES
from bankllm.evidence.records import Record, read_records
from bankllm.evidence.report.summary import measured_by_id
from bankllm.evidence.unbound_numbers import decode_document, read_document, unbound_numbers_in_results
from bankllm.evidence.verification.verify import verify
from bankllm.util.atomic_files import atomic_writer

Text = Callable[[str], str]
EXAMPLE = "<!-- claim: ID -->text<!-- /claim -->, or \\claim{ID}{text} in LaTeX"
HIDDEN = re.compile(r"~~|<(?:s|del|strike)\b|<[^>]*\bhidden\b", re.IGNORECASE)
"""Markup of a number that a reader does not see, or sees struck out."""
SAME_CHARACTERS = str.maketrans("–—−‑％μ", "----%µ")
UNITS = {"percent": "%", "milliseconds": "ms", "msec": "ms", "seconds": "s", "req/s": "requests/s"}
UNITS |= {"requestspersecond": "requests/s", "pct": "%"}
SAME_UNITS = re.compile("|".join(rf"(?<=\d){re.escape(word)}$" for word in UNITS), re.IGNORECASE)


def audit_claims(file: Path, folder: Path) -> list[str]:
    """Returns every fault of the file as text: stale or wrong claims, claims without a record, unbound numbers.

    Raises `RunError` if the file or the run is unreadable.
    """
    text = read_document(file)
    named, file_conditions = run_named_in(text)
    measured = measured_by_id(read_records(folder))
    faults = [f"{file}: stale: {why}" for why in _stale(file, named, folder)]
    prose = blank(text, *(pattern for pattern, _, _ in SYNTAXES), CODE)
    faults += [
        f"{file}:{prose.count(chr(10), 0, match.start()) + 1}: {match[0]!r} is not a complete claim. Expected {EXAMPLE}"
        for match in INCOMPLETE.finditer(prose)
    ]
    for token in find_tokens(text):
        if record := measured.get(token.id):
            found = list(_faults(token, record, file_conditions, text.split("\n")[token.line - 1]))
        else:
            found = [f"run {folder.name} has no valid record for {token.id}"]
        faults += [f"{file}:{token.line}: {fault}" for fault in found]
    return faults + [
        f"{file}:{number.line}: {number.text!r} is in a results section and has no claim. Bind it to a record with "
        "<!-- claim: ID -->, or name its source with <!-- not measured here: source -->"
        for number in unbound_numbers_in_results(text)
    ]


def write_claims(file: Path, folder: Path) -> int:
    """Fills in every claim from its record, and `claims-run` with the path of the run; returns the number of claims.

    All other characters stay as they are, also the spelling of a correct number. Raises `RunError`, without a change,
    if a claim has no valid record that fulfils its conditions.
    """
    measured = measured_by_id(read_records(folder))
    text, encoding = decode_document(file)
    file_conditions = run_named_in(text)[1]
    tokens = list(find_tokens(text))
    if unknown := sorted({token.id for token in tokens} - set(measured)):
        raise RunError(f"{file}: run {folder.name} has no valid record for {', '.join(unknown)}. Nothing was written.")
    if faults := [fault for token in tokens for fault in _condition_faults(token, measured[token.id], file_conditions)]:
        raise RunError(f"{file}: {'; '.join(faults)}. Nothing was written.")

    for pattern, unescape, escape in SYNTAXES:

        def fill(match: re.Match[str], unescape: Text = unescape, escape: Text = escape) -> str:
            shown = format_part(measured[match["id"].replace("\\", "")], match["part"] or "")
            kept = same_figure(unescape(match["text"]), shown)
            return f"{match['open']}{match['text'] if kept else escape(shown)}{match['close']}"

        text = pattern.sub(fill, text)
    run_path = Path(os.path.relpath(folder.resolve(), file.parent.resolve())).as_posix()
    text = RUN.sub(lambda match: f"<!-- claims-run: {run_path}{match['conditions']} -->", text)
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError as error:
        raise RunError(
            f"{file} is in {encoding}, which has no {text[error.start]!r}. Save the file as UTF-8."
        ) from error
    with atomic_writer(file) as output:
        output.write(content)
    return len(tokens)


def same_figure(one: str, two: str) -> bool:
    """Whether `one` shows the same number with the same unit as `two`, in any of the usual spellings.

    These are emphasis, spaces (also HTML's and LaTeX's, or none), dashes, a decimal comma, and units in words.
    """

    def canonical(text: str) -> str:
        text = re.sub(r"\\(?:text|math)\w+|[\\~${}*`]", "", without_markup(text))
        text = re.sub(r"\s", "", text).strip("_").translate(SAME_CHARACTERS).replace("--", "-")
        text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
        return SAME_UNITS.sub(lambda unit: UNITS[unit[0].lower()], re.sub(r"(?<=\d),(?=\d)", ".", text))

    return canonical(one) == canonical(two) and not HIDDEN.search(one)


def run_named_in(text: str) -> tuple[str, str]:
    """The run named by the file's `claims-run`, and its conditions; two empty strings if the file names none.

    Raises `RunError` if it names several.
    """
    named = sorted({(match["run"], match["conditions"]) for match in RUN.finditer(text)})
    if len(named) > 1:
        runs = ", ".join(f"{run}{conditions}" for run, conditions in named)
        raise RunError(
            f"A file can name one run in claims-run; found {runs}. Put the claims of each into its own file."
        )
    return named[0] if named else ("", "")


def _stale(file: Path, named: str, folder: Path) -> Iterator[str]:
    """Yields the reasons why the run in `folder` cannot support the claims of a file that names the run `named`."""
    if named and (file.parent / named).resolve() != folder.resolve():
        yield f"the file names the run {named}, but was checked against {folder}"
    broken = [finding for finding in verify(folder).findings if not finding.holds]
    for finding in broken[:5]:
        yield f"{finding.subject} of {folder.name} does not verify: {finding.detail}"
    if len(broken) > 5:
        yield f"{len(broken) - 5} more findings. See all: bankllm verify {folder}"
    if not (folder / MANIFEST).exists():
        return
    manifest = read_manifest(folder)
    undone = [notebook.name for notebook in manifest.notebooks if notebook.status != "done"]
    if not manifest.complete and (undone or not manifest.finished):
        yield f"run {manifest.run_id} is not complete. Continue with: bankllm run --resume {manifest.run_id}"
    libraries = manifest.environment.get("libraries")
    made_by = str(libraries.get("bankllm") if isinstance(libraries, dict) else None)
    if made_by.split(".")[:2] != __version__.split(".")[:2]:
        yield f"run {manifest.run_id} was made by bankllm {made_by}, this is {__version__}. Measure again: bankllm run"


def _faults(token: Token, record: Record, file_conditions: str, line: str) -> Iterator[str]:
    condition_faults = list(_condition_faults(token, record, file_conditions))
    yield from condition_faults
    if token.part in PARTS and not same_figure(token.text, expected := format_part(record, token.part)):
        yield f"{token.id}: expected {expected!r} as in the record, found {token.text!r}"
    found = str(record.conditions.get("test_sha256"))
    dataset = KNOWN_HASHES.get(found, (str(record.conditions.get("dataset", "")),))[0]
    on_teller77 = dataset.startswith("teller77") and "teller77" not in line.lower()
    if not condition_faults and on_teller77 and "banking77" in line.lower():
        yield f"{token.id} was measured on {dataset}, but its line mentions Banking77"


def _condition_faults(token: Token, record: Record, file_conditions: str) -> Iterator[str]:
    """Yields the conditions that the record does not fulfil, and an unknown part of the record."""
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
