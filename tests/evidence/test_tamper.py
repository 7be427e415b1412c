"""Every tampering with a run is detected and named, by `bankllm verify` and by the `verify.py` of the run.

There are three kinds of attacker. `edits` changes a file. `lists` also writes the new sha256 of the file into the
manifest. `seals` also updates the sha256 in the records and the seal of the manifest, so that only recomputation, the
rules and the comparison of pages with records can detect the change.
"""

import gzip
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from bankllm.evidence.claim_syntax import CLAIM, HTML_CLAIM
from bankllm.evidence.known_facts import KNOWN_DATA
from bankllm.evidence.recompute import sha256_file
from bankllm.evidence.seal import UNSEALED, seal_of
from bankllm.evidence.verification.verify import verify
from tests.support.evidence_run import make_run, replaced

Attacker = Literal["edits", "lists", "seals"]
Change = Callable[[Path], object]
Edit = Callable[[list[str]], list[str]]
SEAL = "manifest.json: was edited"
ATTACKERS: dict[Attacker, str | None] = {"edits": None, "lists": SEAL, "seals": None}
"""Attacker → text that the finding must contain; None: the name of the changed file."""
RAW = ("raw/01_chat.csv.gz", "raw/02_load_locust.csv.gz", "raw/03_answers.csv.gz")
NOTEBOOKS = tuple(
    f"notebooks/{name}.ipynb" for name in ("01_local_validation", "02_load_testing", "03_finetuning_benchmark")
)
UNBOUND = frozenset(("title", "id", "notebook"))
"""Fields of a record whose change is detected in the pages and notebooks, not in the record."""


@dataclass(frozen=True)
class Tampering:
    """One change of a run, the attacker, and the text that at least one finding must contain."""

    what: str
    attacker: Attacker
    change: Change
    expected: str


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("original") / "run")


@pytest.fixture(scope="module")
def standalone(original: Path) -> ModuleType:
    """The module `verify.py` of the run, loaded from its file."""
    spec = importlib.util.spec_from_file_location("standalone_verifier", original / "verify.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_tampering_is_detected_and_named_by_both_verifiers(
    original: Path, standalone: ModuleType, tmp_path: Path
) -> None:
    missed, differing, count = [], [], 0
    for tampering in tamperings(original):
        count += 1
        folder = tmp_path / "run"
        shutil.copytree(original, folder)
        tampering.change(folder)
        update_hashes(folder, tampering.attacker)
        verdict = verify(folder)
        faults = [f"{f.subject}: {f.detail}" for f in verdict.findings if not f.holds]
        if not any(tampering.expected in fault for fault in faults):
            missed.append((tampering.what, tampering.attacker, tampering.expected, faults[:3]))
        again = standalone.run_checks.check_run(folder, standalone.SCHEMAS)
        if [vars(f) for f in verdict.findings] != [vars(f) for f in again.findings]:
            differing.append(tampering.what)
        shutil.rmtree(folder)
    assert missed == []
    assert differing == []
    assert count >= 200


def test_the_run_verifies_and_so_does_a_resealed_copy(original: Path, tmp_path: Path) -> None:
    assert verify(original).holds
    shutil.copytree(original, tmp_path / "run")
    update_hashes(tmp_path / "run", "seals")
    assert verify(tmp_path / "run").holds


@pytest.mark.parametrize("change", ["none", "row", "module beside it"])
def test_verify_py_runs_with_only_the_standard_library(original: Path, tmp_path: Path, change: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(original, folder)
    if change == "row":
        words(RAW[0], "200", "500")(folder)
    if change == "module beside it":
        (folder / "csv.py").write_text("raise SystemExit('all holds')")
    options = ["-S"] if change == "module beside it" else ["-I", "-S"]
    done = subprocess.run(
        [sys.executable, *options, folder / "verify.py", "--json"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.stderr == ""
    assert done.returncode == (change != "none")
    report = json.loads(done.stdout)
    assert report["findings"] == [vars(finding) for finding in verify(folder).findings]


def update_hashes(folder: Path, attacker: Attacker) -> None:
    """Update the hashes of the changed files, as far as this attacker does."""
    path = folder / "manifest.json"
    if attacker == "edits" or not path.is_file():
        return
    if attacker == "seals":
        records = read_records(folder)
        for record in records:
            raw = record.get("raw")
            if raw and (folder / raw["path"]).is_file():
                raw["sha256"] = sha256_file(folder / raw["path"])
        write_records(folder, records)
    manifest = json.loads(path.read_text())
    manifest["files"] = {
        file.relative_to(folder).as_posix(): sha256_file(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != path
    }
    if attacker == "seals":
        manifest["seal"] = UNSEALED
    text = json.dumps(manifest, indent=2) + "\n"
    if attacker == "seals":
        text = text.replace(UNSEALED, seal_of(text.encode(), UNSEALED))
    path.write_text(text)


def tamperings(original: Path) -> Iterator[Tampering]:
    yield from of_rows(original)
    yield from of_records(original)
    yield from of_pages(original)
    yield from of_notebooks(original)
    yield from of_files(original)
    yield from of_manifest(original)


def of_rows(original: Path) -> Iterator[Tampering]:
    """Changed digits, removed and duplicated rows, renamed columns."""
    edits: dict[str, Edit] = {
        "dropped row": lambda ls: ls[:5] + ls[6:],
        "doubled row": lambda ls: [*ls, ls[-1]],
        "rows all but ten dropped": lambda ls: ls[:11],
        "a column renamed": lambda ls: [re.sub("latency_ms|predicted", "said", ls[0]), *ls[1:]],
        "a cell too many": lambda ls: [*ls[:-1], ls[-1] + ",1"],
    }
    for name, record in zip(RAW, ("chat.sequential", "load.locust", "training.lora_r8"), strict=True):
        for number in (1, 120):
            change = lines(name, bump_line(number))
            yield Tampering(f"a digit of line {number} of {name}", "edits", change, name)
            yield Tampering(f"a digit of line {number} of {name}", "lists", change, SEAL)
        for what, edit in edits.items():
            yield Tampering(f"{what} in {name}", "seals", lines(name, edit), record)
    faster = lines(RAW[0], lambda ls: [ls[0], *(re.sub(r"^\d+\.", "1.", line) for line in ls[1:])])
    yield Tampering("faster answers", "seals", faster, "chat.sequential.p95_ms")
    better = lines(RAW[2], lambda ls: [re.sub(r"(intent_\d),intent_\d", r"\1,\1", line) for line in ls])
    yield Tampering("better answers", "seals", better, "training.lora_r8.accuracy")
    yield Tampering("a shorter training", "seals", words("raw/03_costs.csv.gz", "61.25", "51.25"), "train_s: value")
    summary = "raw/02_load_openloop_summary.csv.gz"
    yield Tampering("an idle generator", "edits", words(summary, "0.97", "0.37"), summary)
    yield Tampering("an idle generator", "seals", words(summary, "0.97", "0.37"), "load.openloop.p95_ms")
    yield Tampering("no marks", "seals", lambda f: (f / "raw/02_marks.csv").unlink(), "load.soak.memory")
    yield Tampering("another mark", "seals", words("raw/02_marks.csv", "cut short", "fine"), "load.soak.memory")


def of_records(original: Path) -> Iterator[Tampering]:
    """Each field of several records, and lines that are removed, duplicated or truncated."""
    records = read_records(original)
    by_id = {record["id"]: (index, record) for index, record in enumerate(records)}
    for id in ("chat.sequential.p95_ms", "training.lora_r8.accuracy", "load.openloop.throughput"):
        index, record = by_id[id]
        for field, value in record.items():
            change = record_fields(index, {field: other(value)})
            if id == "chat.sequential.p95_ms":
                yield Tampering(f"{field} of {id}", "lists", change, SEAL)
            named = {"schema_version": "records.jsonl, line", "conditions": "manifest.json"}.get(field, id)
            if field not in UNBOUND:
                yield Tampering(f"{field} of {id}", "seals", change, named)
    yield from of_one_record(by_id)
    edits: dict[str, tuple[Edit, str]] = {
        "a record dropped": (lambda ls: ls[:1] + ls[2:], "RESULTS"),
        "an invalid record dropped": (lambda ls: [x for x in ls if "soak" not in x], "load.soak.memory"),
        "a record twice": (lambda ls: [*ls, ls[1]], records[1]["id"]),
        "all gone": (lambda ls: ls[:0], "RESULTS"),
        "a line cut short": (lambda ls: [*ls[:1], ls[1][:80], *ls[2:]], "line 2"),
        "a key twice": (lambda ls: [*ls[:1], ls[1][:-1] + ',"value":1.0}', *ls[2:]], "line 2"),
        "no JSON": (lambda ls: [*ls[:1], re.sub(r'"value":[\d.]+', '"value":NaN', ls[1]), *ls[2:]], "line 2"),
    }
    for what, (edit, named) in edits.items():
        yield Tampering(what, "edits", lines("records.jsonl", edit), named)
        if named != "line 2":  # this attacker parses the records and writes valid JSON
            yield Tampering(what, "seals", lines("records.jsonl", edit), named)


def of_one_record(by_id: dict[str, tuple[int, dict[str, Any]]]) -> Iterator[Tampering]:
    """False records that fit the schema, with updated hashes and seal."""
    banking77 = {"dataset": "banking77", **KNOWN_DATA["banking77"]}
    p95, accuracy, soak = "chat.sequential.p95_ms", "training.lora_r8.accuracy", "load.soak.memory"
    valid = {"valid": True, "invalid_because": None}
    false_fields: list[tuple[str, str, dict[str, Any]]] = [
        (p95, "a percentile that was shifted", {"parameters": {"column": "latency_ms", "q": 0.9}}),
        (p95, "a percentile called another", {"id": "chat.sequential.p90_ms"}),
        (p95, "seconds for milliseconds", {"unit": "s"}),
        (p95, "bytes for milliseconds", {"unit": "bytes"}),
        (p95, "a mean for a percentile", {"statistic": "mean", "parameters": {"column": "latency_ms"}}),
        (p95, "other rows alone", {"raw": {**by_id[p95][1]["raw"], "where": {"status": "500"}}}),
        (p95, "rows of another file", {"raw": {**by_id[p95][1]["raw"], "path": "raw/02_load_openloop.csv.gz"}}),
        (p95, "a path that leads out", {"raw": {**by_id[p95][1]["raw"], "path": "../run/raw/01_chat.csv.gz"}}),
        (p95, "an absolute path", {"raw": {**by_id[p95][1]["raw"], "path": "/etc/passwd"}}),
        (p95, "no raw file", {"raw": None}),
        (p95, "a narrower interval", {"ci95": [by_id[p95][1]["value"]] * 2}),
        (p95, "no interval", {"ci95": None, "why_no_ci95": "one run"}),
        (p95, "a value a little lower", {"value": by_id[p95][1]["value"] * 0.999}),
        (p95, "marked invalid for nothing", {"valid": False, "invalid_because": "too slow"}),
        (accuracy, "a rounded share", {"value": round(by_id[accuracy][1]["value"], 1)}),
        (accuracy, "per cent for a share", {"unit": "%"}),
        (accuracy, "the column of the answers for the prediction", {"parameters": {"predicted": "actual"}}),
        (accuracy, "another profile", {"conditions": {**by_id[accuracy][1]["conditions"], "profile": "full"}}),
        (accuracy, "a forged data set", {"conditions": {**by_id[accuracy][1]["conditions"], "dataset": "banking77"}}),
        (accuracy, "a hidden data set", {"conditions": {**by_id[accuracy][1]["conditions"], "dataset": "ours"}}),
        (accuracy, "another model", {"conditions": {**by_id[accuracy][1]["conditions"], "model": "bge-large"}}),
        (accuracy, "other rows of the data", {"conditions": {**by_id[accuracy][1]["conditions"], "test_rows": 3080}}),
        (accuracy, "all of the data forged", {"conditions": {**by_id[accuracy][1]["conditions"], **banking77}}),
        ("chat.sequential.p99_ms", "a removed mark: too few samples", valid),
        ("chat.sequential.p99_ms", "a value from too few samples", {**valid, "value": 22.0}),
        ("load.openloop.p95_ms", "a removed mark: busy generator", valid),
        ("load.health.p95_ms", "a removed mark: the load's own", valid),
        (soak, "a removed mark: the notebook's own", valid),
        (soak, "a mark in other words", {"invalid_because": "nothing to see"}),
        ("load.ab.p95_ms", "a value for what was not measured", {"value": 31.0}),
        ("load.ab.p95_ms", "valid without a measurement", valid),
        ("load.ab.p95_ms", "not measured for no reason", {"invalid_because": None}),
        ("load.locust.throughput", "a rate in milliseconds", {"unit": "ms"}),
        ("training.lora_r8.train_s", "minutes for seconds", {"unit": "min"}),
    ]
    for id, what, changes in false_fields:
        index = by_id[id][0]
        named = str(changes.get("id", id))
        if "profile" in what or "all of the data" in what:
            named = "manifest.json"
        yield Tampering(f"{what} ({id})", "seals", record_fields(index, changes), named)


def of_pages(original: Path) -> Iterator[Tampering]:
    """Claims of each page with another number or another record, and numbers that no record has."""
    for page, pattern in (("RESULTS.md", CLAIM), ("RESULTS.html", HTML_CLAIM), ("RESUME.md", CLAIM)):
        text = (original / page).read_text()
        once = {(m["id"], m["part"]): m for m in pattern.finditer(text) if re.search(r"\d", m["text"])}
        for match in once.values():
            rounded = match[0].replace(f">{match['text']}<", f">{bump(match['text'])}<")
            yield Tampering(f"{match['id']} in {page}", "seals", splice(page, match.span(), rounded), page)
        insertion = (
            ("</body>", "<p>Answers in 3.14 ms.</p></body>") if page.endswith("html") else ("\n#", "\n3.14 ms\n\n#")
        )
        for attacker, named in ATTACKERS.items():
            unbound = words(page, *insertion)
            yield Tampering(f"an unbound number in {page}", attacker, unbound, named or page)
            match = next(iter(once.values()))
            foreign = splice(page, match.span(), match[0].replace(match["id"], "chat.none.p50_ms"))
            yield Tampering(f"a number bound to no record in {page}", attacker, foreign, named or page)


def of_notebooks(original: Path) -> Iterator[Tampering]:
    """Values, intervals and titles in the tables of the notebooks, and truncated notebooks."""
    for name, kind in zip(NOTEBOOKS, ("chat", "load", "training"), strict=True):
        text = (original / name).read_text()
        cells = [match for match in re.finditer(r"<td>(\d[^<]*)</td>", text) if not match[1].isdigit()][:3]
        for match in cells:
            change = splice(name, match.span(), f"<td>{bump(match[1])}</td>")
            yield Tampering(f"{match[1]} in {name}", "edits", change, name)
            yield Tampering(f"{match[1]} in {name}", "seals", change, name)
        yield Tampering(f"a status in {name}", "seals", words(name, "<td>measured</td>", "<td>invalid</td>"), name)
        yield Tampering(f"a title in {name}", "seals", words(name, "<td>", "<td>Fast "), name)
        yield Tampering(f"an id in {name}", "seals", words(name, f"<th>{kind}.", "<th>best."), name)
        cut = bytes_of(name, lambda content: content[:-50])
        yield Tampering(f"{name} cut short", "seals", cut, name)

    text = (original / NOTEBOOKS[0]).read_text()
    plain = re.search(r"\d+\.\d ms", text[text.index("text/plain") :])
    assert plain
    at = text.rindex(plain[0])
    change = splice(NOTEBOOKS[0], (at, at + len(plain[0])), "9.9 ms")
    yield Tampering(f"{plain[0]} in plain text", "seals", change, NOTEBOOKS[0])


def of_files(original: Path) -> Iterator[Tampering]:
    """Each file with one byte changed; files removed, renamed, replaced by a link, added or swapped."""
    names = [path.relative_to(original).as_posix() for path in sorted(original.rglob("*")) if path.is_file()]
    for name in names:
        if name != "manifest.json":
            yield Tampering(f"the last byte of {name}", "edits", bytes_of(name, lambda c: c[:-1] + b"~"), name)
    for name in (*RAW, "records.jsonl", "RESULTS.md", "verify.py", "plots/01_latency.png", NOTEBOOKS[0]):
        yield Tampering(f"{name} renamed", "edits", lambda f, n=name: (f / n).rename(f / f"{n}.old"), name)
        yield Tampering(f"{name} removed", "edits", lambda f, n=name: (f / n).unlink(), name)
        yield Tampering(f"{name} a link", "edits", lambda f, n=name: link(f / n), name)
    edited = bytes_of("plots/01_latency.png", lambda content: content[:100] + b"x" * 50)
    yield Tampering("an edited plot", "edits", edited, "plots/01_latency.png")
    yield Tampering("an edited plot", "lists", edited, SEAL)
    for added in ("raw/04_more.csv", "notes.txt", "raw/manifest.json", ".hidden", "notebooks/x/y.txt"):
        yield Tampering(f"{added} added", "edits", lambda f, n=added: write(f / n, "a\n1\n"), added)
        yield Tampering(f"{added} added", "lists", lambda f, n=added: write(f / n, "a\n1\n"), SEAL)
    for one, two in ((RAW[0], "raw/02_load_openloop.csv.gz"), ("RESULTS.md", "RESUME.md"), NOTEBOOKS[:2]):
        yield Tampering(f"{one} and {two} swapped", "edits", lambda f, a=one, b=two: swap(f / a, f / b), one)
    swapped = "raw/02_load_openloop.csv.gz"
    yield Tampering("raw files swapped", "seals", lambda f: swap(f / RAW[0], f / swapped), "chat.sequential.p50_ms")
    for raw in RAW:
        yield Tampering(f"{raw} removed", "seals", lambda f, n=raw: (f / n).unlink(), f"{raw} is missing")


def of_manifest(original: Path) -> Iterator[Tampering]:
    """Each field of the manifest, and its entries for data, models, notebooks and files."""
    manifest = json.loads((original / "manifest.json").read_text())
    plain: dict[str, dict[str, Any]] = {
        "another commit": {"git_commit": "f" * 40},
        "a dirty tree": {"git_dirty": True},
        "another command": {"command": "bankllm run --profile full"},
        "another machine": {"environment": {"cpu": "a faster CPU"}},
        "a file less": {"files": {k: v for k, v in manifest["files"].items() if k != RAW[0]}},
        "another hash": {"files": manifest["files"] | {RAW[0]: "0" * 64}},
        "no seal": {"seal": None},
    }
    plain |= {f"{field} of the manifest": {field: other(value)} for field, value in manifest.items()}
    sealed: dict[str, dict[str, Any]] = {
        "a data set less": {"data": {}},
        "other data": {"data": {"teller77": manifest["data"]["teller77"] | {"test_rows": 1}}},
        "another model": {"models": {"bge-large": None}},
        "another profile": {"profile": "full"},
        "a run that is complete": {"complete": True, "finished": None},
        "a notebook that was not run": {"notebooks": [{"name": "04_vector_search", "status": "done", "seconds": 1.0}]},
        "a field that is not known": {"stars": 5},
        "a newer schema": {"schema_version": 2},
    }
    for what, changes in plain.items():
        yield Tampering(what, "edits", manifest_fields(changes), "manifest.json")
    for what, changes in sealed.items():
        yield Tampering(what, "seals", manifest_fields(changes), "manifest.json")
    yield Tampering("a space at its end", "edits", bytes_of("manifest.json", lambda c: c + b" "), "manifest.json")
    yield Tampering("half a manifest", "edits", bytes_of("manifest.json", lambda c: c[:40]), "manifest.json")


def read_records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def write_records(folder: Path, records: list[dict[str, Any]]) -> None:
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def record_fields(index: int, changes: dict[str, Any]) -> Change:
    def change(folder: Path) -> None:
        records = read_records(folder)
        records[index] |= changes
        write_records(folder, records)

    return change


def manifest_fields(changes: dict[str, Any]) -> Change:
    return bytes_of("manifest.json", lambda content: json.dumps(json.loads(content) | changes, indent=2).encode())


def bytes_of(name: str, edit: Callable[[bytes], bytes]) -> Change:
    """Returns a change of a file's content. It fails if the content stays the same, which would test nothing."""

    def change(folder: Path) -> None:
        before = (folder / name).read_bytes()
        after = edit(before)
        assert after != before
        (folder / name).write_bytes(after)

    return change


def lines(name: str, edit: Edit) -> Change:
    """Returns a change of the lines of a text file, plain or gzip."""

    def content(before: bytes) -> bytes:
        plain = gzip.decompress(before) if name.endswith(".gz") else before
        after = "".join(f"{line}\n" for line in edit(plain.decode().splitlines())).encode()
        return gzip.compress(after) if name.endswith(".gz") else after

    return bytes_of(name, content)


def words(name: str, old: str, new: str) -> Change:
    return bytes_of(name, lambda content: replaced(content, old, new))


def splice(name: str, span: tuple[int, int], new: str) -> Change:
    def content(before: bytes) -> bytes:
        text = before.decode()
        return (text[: span[0]] + new + text[span[1] :]).encode()

    return bytes_of(name, content)


def bump(text: str) -> str:
    """Returns the text with its first digit raised by one, modulo 10."""
    return re.sub(r"\d", lambda match: str((int(match[0]) + 1) % 10), text, count=1)


def bump_line(number: int) -> Edit:
    return lambda ls: [*ls[:number], bump(ls[number]), *ls[number + 1 :]]


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


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def swap(one: Path, two: Path) -> None:
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def link(path: Path) -> None:
    elsewhere = path.parents[2] / f"{path.name}.elsewhere"
    path.replace(elsewhere)
    path.symlink_to(elsewhere)
