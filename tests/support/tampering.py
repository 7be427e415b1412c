"""Mutations of a run, and what both verifiers find in the mutated copy: `bankllm verify` and the run's `verify.pyz`."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bankllm.evidence.verification.verify import verify
from bankllm.util.file_hash import sha256_file
from tests.support.sealed_run import edit_text, reseal

Change = Callable[[Path], object]
SERVE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bankllm.evidence.verification.run_checks import main
for line in sys.stdin:
    main(Path(line.rstrip("\\n")), ["--json"])
    print(flush=True)
"""
"""Verifies the folders that it reads with the modules of a `verify.pyz`; an empty line ends each verdict."""


class Tampering(NamedTuple):
    what: str
    attacker: str
    """`edits` changes files. `lists` also writes their new sha256 into the manifest. `seals` also updates the sha256 in
    the records, the seal of the manifest and the RO-Crate, so that only recomputation, rules and comparisons are left.
    """
    change: Change
    named: tuple[str, ...]
    """A finding must contain one of these texts: the record or the file."""


def content(name: str, edit: Callable[[str], str]) -> Change:
    return lambda folder: edit_text(folder / name, edit)


def replaced(name: str, old: str, new: str) -> Change:
    return content(name, lambda text: text.replace(old, new, 1))


def lines(name: str, edit: Callable[[list[str]], list[str]]) -> Change:
    return content(name, lambda text: "".join(f"{line}\n" for line in edit(text.splitlines())))


def fields(wanted: str, /, file: str = "records.jsonl", **changes: Any) -> Change:
    """A change of fields of one record; a dictionary is merged with the value of its field."""

    def edit(before: list[str]) -> list[str]:
        records = [json.loads(line) for line in before]
        for record in records:
            if record["id"] == wanted:
                record |= {k: (record[k] or {}) | v if isinstance(v, dict) else v for k, v in changes.items()}
        return [json.dumps(record) for record in records]

    return lines(file, edit)


def column(name: str, wanted: str, counted: str = "other") -> Change:
    """Changes a column of a CSV file: each number, in even and odd rows by another factor, and most texts.

    A text becomes `counted`, the one that a record counts, or another.
    """

    def edit(text: str) -> str:
        rows = list(csv.DictReader(io.StringIO(text)))
        for number, row in enumerate(rows):
            if re.fullmatch(r"\d+(\.\d+)?", row[wanted]):
                row[wanted] = f"{float(row[wanted]) * (2 + number % 2) + 7:g}"
            elif number % 2 == 0 or number == 1:
                row[wanted] = counted if row[wanted] != counted else "other"
        output = io.StringIO()
        writer = csv.DictWriter(output, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return output.getvalue()

    return content(name, edit)


def listed(**changes: Any) -> Change:
    return content("manifest.json", lambda text: json.dumps(json.loads(text) | changes, indent=2))


def entity(wanted: str, **changes: Any) -> Change:
    """A change of the properties of one entity of the RO-Crate."""

    def edit(text: str) -> str:
        crate = json.loads(text)
        for one in crate["@graph"]:
            one |= changes if one["@id"] == wanted else {}
        return json.dumps(crate)

    return content("ro-crate-metadata.json", edit)


def removed(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def added(name: str) -> Change:
    return lambda folder: ((folder / name).parent.mkdir(exist_ok=True), (folder / name).write_text("a\n1\n"))


def renamed(name: str) -> Change:
    return lambda folder: (folder / name).rename(folder / f"{name}.old")


def linked(name: str) -> Change:
    return lambda folder: (folder / name).symlink_to((folder / name).replace(folder.parent / "elsewhere"))


def swapped(one: str, two: str) -> Change:
    def change(folder: Path) -> None:
        first, second = (folder / one).read_bytes(), (folder / two).read_bytes()
        (folder / one).write_bytes(second)
        (folder / two).write_bytes(first)

    return change


def bump(text: str) -> str:
    """Returns the text with its first digit raised by one, modulo 10."""
    return re.sub(r"\d", lambda match: str((int(match[0]) + 1) % 10), text, count=1)


def other(value: Any) -> Any:
    """Returns another value of the same type."""
    if value is None:
        return "for no reason"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*map(other, value)] or [1]
    if isinstance(value, dict):
        return {key: other(part) for key, part in value.items()} or {"more": 1}
    return f"{value}x"


def update_hashes(folder: Path, attacker: str) -> None:
    """Update the hashes of the changed files, as far as this attacker does."""
    if attacker == "edits":
        return
    if attacker == "seals":
        for path in folder.rglob("records.jsonl"):  # also those of trained models
            records = [json.loads(line) for line in path.read_text().splitlines()]
            for raw in (record["raw"] for record in records if record.get("raw")):
                if (path.parent / raw["path"]).is_file():
                    raw["sha256"] = sha256_file(path.parent / raw["path"])
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
        reseal(folder)
        return
    path = folder / "manifest.json"
    seal = json.loads(path.read_text())["seal"]
    reseal(folder)
    edit_text(path, lambda text: json.dumps(json.loads(text) | {"seal": seal}, indent=2))


Standalone = Callable[[Path], list[dict[str, str]]]


@contextmanager
def standalone(pyz: Path) -> Iterator[Standalone]:
    """Yields a function that returns the findings of the verifier of a run in a process without other packages."""
    command = [sys.executable, "-I", "-S", "-c", SERVE, str(pyz)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout

        def findings(folder: Path) -> list[dict[str, str]]:
            process.stdin.write(f"{folder}\n")
            process.stdin.flush()
            found: list[dict[str, str]] = json.loads("".join(iter(process.stdout.readline, "\n")))["findings"]
            return found

        yield findings
        process.stdin.close()


def undetected(original: Path, folder: Path, alone: Standalone, tampering: Tampering) -> str | None:
    """Applies a tampering to a copy of the run; returns what one of the verifiers missed, or None."""
    what, attacker, change, named = tampering
    shutil.copytree(original, folder)
    try:
        change(folder)
        update_hashes(folder, attacker)
        found = [vars(finding) for finding in verify(folder).findings]
        own = alone(folder)
    finally:
        shutil.rmtree(folder)
        (folder.parent / "elsewhere").unlink(missing_ok=True)
    rendered_again = [finding for finding in found if "differs from the page" in finding["detail"]]
    if own != [finding for finding in found if finding not in rendered_again]:
        return f"{what} ({attacker}): the verifiers differ"
    faults = faults_in([*own, *rendered_again])
    return None if names_one(faults, named) else f"{what} ({attacker}): expected {named[:3]}, found {faults[:3]}"


def faults_in(findings: list[Mapping[str, str]] | list[dict[str, str]]) -> list[str]:
    return [f"{one['subject']}: {one['detail']}" for one in findings if one["status"] == "does not hold"]


def names_one(faults: list[str], named: tuple[str, ...]) -> bool:
    return any(text in fault for fault in faults for text in named)
