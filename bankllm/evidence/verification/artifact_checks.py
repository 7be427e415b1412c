"""Check a trained model, on its own or in a run: its records, the files that they name, and its model card."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.claim_syntax import find_tokens
from bankllm.evidence.documents import Record
from bankllm.evidence.manifest import RECORDS
from bankllm.evidence.verification.page_checks import claim_faults
from bankllm.evidence.verification.record_checks import (
    Finding,
    broken,
    changed_files,
    check_records,
    read_record_lines,
    read_text,
)

CARD = "README.md"
METRIC = re.compile(r"value: (\S+)\n\s+name: (.+)")


def check_artifacts(
    folder: Path, hashes: Mapping[str, str], left_out: Mapping[str, str], records: Sequence[Record]
) -> Iterator[Finding]:
    """Yields the faults of each trained model in a run, and one `ok` for a model without a fault.

    A published copy lacks the files `left_out` (path → sha256). A record whose rows it lacks must equal the record that
    repeats it, `training.<folder>.<id>`, if there is one.
    """
    repeated = {record.id: record for record in records}
    for inner in (name.removesuffix(f"/{RECORDS}") for name in hashes if name.endswith(f"/{RECORDS}")):
        every = {**left_out, **hashes}.items()
        files = {path.removeprefix(f"{inner}/"): sha256 for path, sha256 in every if path.startswith(f"{inner}/")}
        own, found = read_record_lines(folder / inner)
        lost = [one for one in own if one.raw and f"{inner}/{one.raw.path}" in left_out.keys() - hashes.keys()]
        found += check_records(folder / inner, [one for one in own if one not in lost], files)
        for one in lost:
            same = repeated.get(f"training.{inner.rpartition('/')[2]}.{one.id}", one)
            if (same.value, same.n, same.ci95, same.unit) != (one.value, one.n, one.ci95, one.unit):
                found.append(broken(one.id, f"differs from {same.id}"))
        found += [*check_named_files(own, files), *check_card(folder / inner, own)]
        faults = [replace(fault, subject=f"{inner}/{fault.subject}") for fault in found if not fault.holds]
        yield from faults or [Finding(inner, "ok", f"{len(own)} records, the files they name and the model card agree")]


def check_named_files(records: Sequence[Record], hashes: Mapping[str, str]) -> list[Finding]:
    """Checks that the records name the measured files of the model, and that those are unchanged."""
    named = [record.conditions.get("files", {}) for record in records]
    if not all(isinstance(files, dict) for files in named):
        return [broken(RECORDS, "conditions.files is not an object of paths and their sha256")]
    files = {name: str(sha256) for files in named for name, sha256 in files.items()}
    if not files:
        return [broken(RECORDS, "no record names the weights that it measured (conditions.files)")]
    return list(changed_files(files, hashes, "the records name it"))


def check_card(folder: Path, records: Sequence[Record]) -> list[Finding]:
    """Checks the model card: values in `model-index` equal the records exactly, and the claims in its text agree."""
    try:
        text = read_text(folder, CARD)
    except RunError as error:
        return [broken(CARD, str(error))]
    measured = {record.id: record for record in records if record.status == "measured"}
    faults = list(claim_faults(text, measured))
    values = {record.title: record.value for record in measured.values()}
    header = re.match(r"\s*---\n(.*?)\n---", text, re.DOTALL)
    results = METRIC.findall(header[1]) if header else []
    if header and len(results) != len(re.findall(r"\bvalue\b", header[1])):
        faults.append("model-index: expected each `value` on a line of its own, and the `name` in the next")
    for found, name in results:
        if found != str(value := values.get(name)):
            faults.append(f"model-index: expected {name} {value}, as in the records, found {found}")
    if faults:
        return [broken(CARD, fault) for fault in faults]
    return [Finding(CARD, "ok", f"{len(results) + len(list(find_tokens(text)))} numbers agree with their records")]
