"""Every tampering with a run is detected and named, by `bankllm verify` and by the run's `verify.pyz`.

There are three kinds of attacker. `edits` changes a file. `lists` also writes the new sha256 of the file into the
manifest. `seals` also updates the sha256 in the records and the seal of the manifest, so that only recomputation, the
rules and the comparison of pages with records can detect the change. `make test-tamper` runs all of them.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bankllm.evidence.claim_syntax import CLAIM, HTML_CLAIM
from bankllm.evidence.verification.verify import verify
from bankllm.util.file_hash import sha256_file
from tests.support.sealed_run import BANKING77, NOTEBOOK, TELLER77, edit_text, reseal, sealed_run

Change = Callable[[Path], object]
Tampering = tuple[str, str, Change, str]
"""What is changed, the attacker, the change, and the text that a finding must contain."""
SEAL = "manifest.json: was edited"
BUSY = "raw/01_load_openloop_summary.csv.gz"
CHAT, ANSWERS, MIX = "raw/01_chat.csv.gz", "raw/01_answers.csv.gz", "raw/01_load_mix.csv.gz"
NB = f"notebooks/{NOTEBOOK}.ipynb"
P95, P99, ACCURACY = "chat.sequential.p95_ms", "chat.sequential.p99_ms", "training.lora_r8.accuracy"
SOAK = "load.soak.memory"
VALID = {"valid": True, "invalid_because": None}


def content(name: str, edit: Callable[[str], str]) -> Change:
    return lambda folder: edit_text(folder / name, edit)


def replaced(name: str, old: str, new: str) -> Change:
    return content(name, lambda text: text.replace(old, new, 1))


def lines(name: str, edit: Callable[[list[str]], list[str]]) -> Change:
    return content(name, lambda text: "".join(f"{line}\n" for line in edit(text.splitlines())))


def fields(wanted: str, /, **changes: Any) -> Change:
    """A change of fields of one record; a dictionary is merged with the value of its field."""

    def edit(before: list[str]) -> list[str]:
        records = [json.loads(line) for line in before]
        for record in records:
            if record["id"] == wanted:
                record |= {k: (record[k] or {}) | v if isinstance(v, dict) else v for k, v in changes.items()}
        return [json.dumps(record) for record in records]

    return lines("records.jsonl", edit)


def listed(**changes: Any) -> Change:
    return content("manifest.json", lambda text: json.dumps(json.loads(text) | changes, indent=2))


def removed(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def added(name: str) -> Change:
    return lambda folder: ((folder / name).parent.mkdir(exist_ok=True), (folder / name).write_text("a\n1\n"))


def linked(name: str) -> Change:
    return lambda folder: (folder / name).symlink_to((folder / name).replace(folder.parent / "elsewhere"))


def swapped(one: str, two: str) -> Change:
    def change(folder: Path) -> None:
        first, second = (folder / one).read_bytes(), (folder / two).read_bytes()
        (folder / one).write_bytes(second)
        (folder / two).write_bytes(first)

    return change


SAMPLE: list[Tampering] = [
    ("a digit of a row", "edits", replaced(CHAT, "\n77", "\n76"), P95),
    ("a digit of a row", "lists", replaced(CHAT, "\n77", "\n76"), SEAL),
    ("a dropped row", "seals", lines(CHAT, lambda ls: ls[:5] + ls[6:]), P95),
    ("better answers", "seals", replaced(ANSWERS, ",a,b", ",a,a"), ACCURACY),
    ("a value a little lower", "seals", fields(P95, value=189.9), f"{P95}: value: recorded 189.9, recomputed 190.0"),
    ("a shifted percentile", "seals", fields(P95, parameters={"q": 0.9}), P95),
    ("a removed mark: too few samples", "seals", fields(P99, **VALID), f"{P99}: recorded as valid, but p99 needs"),
    ("a removed mark: busy generator", "seals", fields("load.openloop.p95_ms", **VALID), "load.openloop.p95_ms"),
    ("a value that was not measured", "seals", fields("load.locust.p95_ms", value=31.0), "has a value without a raw"),
    ("another unit", "seals", fields(P95, unit="s"), f"{P95}: expected unit ms, found s"),
    ("a field less", "seals", replaced("records.jsonl", '"n":200,', ""), f"{ACCURACY}: field n is missing"),
    ("a record dropped", "seals", lines("records.jsonl", lambda ls: ls[1:]), "RESULTS.md: line"),
    ("a claim on a page", "seals", replaced("RESULTS.html", ">190.0 ms<", ">180.0 ms<"), "RESULTS.html: line"),
    ("prose on a page", "seals", replaced("RESULTS.md", "measured in this run", "faster"), "RESULTS.md: differs from"),
    ("a citation", "seals", replaced("CITATION.cff", " measured", "00 measured"), "CITATION.cff: differs from"),
    ("a cell of a notebook", "seals", replaced(NB, "<td>190.0 ms</td>", "<td>180.0 ms</td>"), f"{NB}: value of {P95}"),
    ("a page in a notebook", "seals", replaced(NB, "-->190.0 ms<", "-->180.0 ms<"), f"{NB}: line"),
    ("a plot", "edits", content("plots/01_latency.png", lambda text: text[:99]), "latency.png: expected sha256"),
    ("a plot", "lists", content("plots/01_latency.png", lambda text: text[:99]), SEAL),
    ("a file removed", "edits", removed(ANSWERS), f"{ANSWERS}: the manifest lists it, but it is missing"),
    ("a file added", "edits", added("notes.txt"), "notes.txt: is in the run folder"),
    ("another commit", "edits", listed(git_commit="f" * 40), SEAL),
]  # fmt: skip
FORGED: list[tuple[str, dict[str, Any], str]] = [
    (P95, {"id": "chat.sequential.p90_ms"}, "the id says p90"),
    (P95, {"statistic": "mean"}, P95),
    (P95, {"statistic": "across", "parameters": {"group": "ms", "pick": "max", "of": "none"}}, "cannot be applied"),
    (P95, {"raw": {"path": "../run/raw/01_chat.csv"}}, "is outside the run folder"),
    (P95, {"raw": None}, P95),
    (P95, {"ci95": [190.0, 190.0]}, f"{P95}: lower end of the interval"),
    (P95, {"ci95": None, "why_no_ci95": "one run"}, P95),
    (P95, {"notebook": "02_load_testing"}, "its raw file is from notebook 01"),
    (P95, {"valid": False, "invalid_because": "too slow"}, f"{P95}: invalid_because"),
    (P95, {"valid": False}, "no reason was found"),
    (P99, {**VALID, "value": 198.0}, P99),
    (ACCURACY, {"parameters": {"predicted": "actual"}}, ACCURACY),
    (ACCURACY, {"conditions": {"profile": "full"}}, "manifest.json: profile quick differs"),
    (ACCURACY, {"conditions": {"dataset": "banking77"}}, "named 'banking77', but its test_sha256 is that of teller77"),
    (ACCURACY, {"conditions": {"test_rows": 3080}}, "manifest.json: data: teller77 differs"),
    (ACCURACY, {"conditions": {"model": "bge-large"}}, "'bge-large', but its model_sha256 is that of all-MiniLM-L6-v2"),
    (ACCURACY, {"conditions": BANKING77}, "manifest.json: data: banking77 differs"),
    ("load.health.p95_ms", VALID, "load.health.p95_ms: recorded as valid, but the server restarted"),
    (SOAK, VALID, f"{SOAK}: recorded as valid, but the soak was cut short"),
    ("load.locust.p95_ms", {"invalid_because": None}, "gives no reason"),
    ("load.ab.throughput", {"unit": "ms"}, "expected a unit that ends in /s"),
]
SEALED_MANIFESTS: list[dict[str, Any]] = [
    {"data": {}},
    {"data": {"teller77": TELLER77 | {"test_rows": 1}}},
    {"profile": "full"},
    {"complete": True, "finished": None},
    {"notebooks": [{"name": "04_vector_search", "status": "done", "seconds": 1.0}]},
    {"schema_version": 2},
]
LINES: list[tuple[str, Callable[[list[str]], list[str]], str]] = [
    ("a record twice", lambda ls: [*ls, ls[1]], "training.lora_r8.train_s: is in records.jsonl more than once"),
    ("an excluded record dropped", lambda ls: [x for x in ls if "soak" not in x], f"{SOAK}: is excluded by a file"),
    ("a line cut short", lambda ls: [ls[0][:80], *ls[1:]], "records.jsonl, line 1: not a measurement record"),
    ("a key twice", lambda ls: [ls[0][:-1] + ',"value":1.0}', *ls[1:]], "line 1: not a measurement record: an object"),
    ("no JSON", lambda ls: [re.sub(r'"value":[\d.]+', '"value":NaN', ls[0]), *ls[1:]], "NaN is not JSON"),
]
ROWS: dict[str, Callable[[list[str]], list[str]]] = {
    "doubled row": lambda ls: [*ls, ls[-1]],
    "all but ten rows dropped": lambda ls: ls[:11],
    "a column renamed": lambda ls: [re.sub("ms|predicted", "said", ls[0]), *ls[1:]],
    "a cell too many": lambda ls: [*ls[:-1], ls[-1] + ",1"],
}


def all_tamperings(original: Path) -> Iterator[Tampering]:
    """Each file, record, field and claim of the run in turn."""
    yield from SAMPLE
    for id, changes, expected in FORGED:
        yield f"{changes} of {id}", "seals", fields(id, **changes), expected
    for change in SEALED_MANIFESTS:
        yield f"{change} in the manifest", "seals", listed(**change), "manifest.json"
    for what, edit, expected in LINES:
        yield what, "edits", lines("records.jsonl", edit), expected
    for name, id in ((CHAT, P95), (ANSWERS, ACCURACY), (MIX, "load.mix.p95_ms")):
        for what, edit in ROWS.items():
            yield f"{what} in {name}", "seals", lines(name, edit), id
        yield f"{name} removed", "seals", removed(name), f"{name} is missing"
    yield ("an idle generator", "seals", replaced(BUSY, "0.97", "0.3"), "load.openloop.p95")
    yield "no marks", "seals", removed("raw/01_marks.csv"), SOAK
    yield "another mark", "seals", replaced("raw/01_marks.csv", "cut short", "fine"), SOAK
    yield from of_every_file(original)
    yield from of_every_number(original)
    record = json.loads((original / "records.jsonl").read_text().splitlines()[0])
    for field in record.keys() - {"id", "schema_version", "notebook"}:
        new = fields(record["id"], **{field: other(record[field])})
        yield f"the record's {field}", "lists", new, SEAL
        named = {"title": f"{NB}: what of", "conditions": "manifest.json"}.get(field, record["id"])
        yield f"the record's {field}", "seals", new, named


def of_every_file(original: Path) -> Iterator[Tampering]:
    names = [path.relative_to(original).as_posix() for path in sorted(original.rglob("*")) if path.is_file()]
    for name in names:
        named = f"{name}: " if name != "manifest.json" else name
        yield f"the last byte of {name}", "edits", content(name, lambda text: text[:-1] + "~"), named
        if name != "manifest.json":
            for change in (removed(name), linked(name), lambda f, n=name: (f / n).rename(f / f"{n}.old")):
                yield f"{name} removed, linked or renamed", "edits", change, named
    for name in ("raw/04_more.csv", "raw/manifest.json", ".hidden", "notebooks/x/y.txt"):
        yield f"{name} added", "edits", added(name), name
        yield f"{name} added", "lists", added(name), SEAL
    for one, two in ((CHAT, ANSWERS), ("RESULTS.md", "RESUME.md")):
        yield f"{one} and {two} swapped", "edits", swapped(one, two), one
    yield "raw files swapped", "seals", swapped(CHAT, ANSWERS), P95
    for field, value in json.loads((original / "manifest.json").read_text()).items():
        yield f"{field} of the manifest", "edits", listed(**{field: other(value)}), "manifest.json"


def of_every_number(original: Path) -> Iterator[Tampering]:
    for page, pattern in (("RESULTS.md", CLAIM), ("RESULTS.html", HTML_CLAIM), ("RESUME.md", CLAIM)):
        claims = {match[0]: match for match in pattern.finditer((original / page).read_text())}
        for whole, match in claims.items():
            if re.search(r"\d", match["text"]):
                false = whole.replace(f">{match['text']}<", f">{bump(match['text'])}<")
                yield f"{whole} in {page}", "seals", replaced(page, whole, false), f"{page}: line"
            foreign = whole.replace(match["id"], "chat.none.p50_ms")
            yield f"another id than {whole} in {page}", "seals", replaced(page, whole, foreign), "no record chat.none"
    cells = re.findall(r"<td>[^<]*\d[^<]*</td>", (original / NB).read_text())
    for cell in {*cells, "<td>measured</td>", f"<th>{P95}</th>"}:
        false = bump(cell) if re.search(r"\d", cell) else "<td>invalid</td>"
        yield f"{cell} in {NB}", "seals", replaced(NB, cell, false), NB


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
        records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
        for raw in (record["raw"] for record in records if record.get("raw")):
            if (folder / raw["path"]).is_file():
                raw["sha256"] = sha256_file(folder / raw["path"])
        (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        reseal(folder)
        return
    path = folder / "manifest.json"
    seal = json.loads(path.read_text())["seal"]
    reseal(folder)
    edit_text(path, lambda text: json.dumps(json.loads(text) | {"seal": seal}, indent=2))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_run(tmp_path_factory.mktemp("original") / "run", excluded=True, data=TELLER77, complete=False)


def undetected(original: Path, folder: Path, tampering: Tampering) -> str | None:
    """Applies a tampering to a copy of the run; returns what either verifier missed, or None."""
    what, attacker, change, expected = tampering
    shutil.copytree(original, folder)
    change(folder)
    update_hashes(folder, attacker)
    command = [sys.executable, "-I", "-S", original / "verify.pyz", folder, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    alone = json.loads(done.stdout)["findings"]
    found = [vars(finding) for finding in verify(folder).findings]
    faults = [f"{f['subject']}: {f['detail']}" for f in found if f["status"] == "does not hold"]
    shutil.rmtree(folder)
    (folder.parent / "elsewhere").unlink(missing_ok=True)
    if not any(expected in fault for fault in faults):
        return f"{what} ({attacker}): expected {expected!r}, found {faults[:3]}"
    rendered_again = [f for f in found if "differs from the page" in f["detail"]]
    return None if alone == [f for f in found if f not in rendered_again] else f"{what} ({attacker}): they differ"


@pytest.mark.parametrize("tampering", SAMPLE, ids=lambda tampering: f"{tampering[0]} ({tampering[1]})")
def test_a_tampering_is_detected_and_named_by_both_verifiers(
    original: Path, tmp_path: Path, tampering: Tampering
) -> None:
    assert undetected(original, tmp_path / "run", tampering) is None


@pytest.mark.tamper
@pytest.mark.timeout(1800)
def test_every_tampering_is_detected_and_named_by_both_verifiers(original: Path, tmp_path: Path) -> None:
    tamperings = list(all_tamperings(original))
    assert len(tamperings) >= 200
    faults = [fault for one in tamperings if (fault := undetected(original, tmp_path / "run", one))]
    assert not faults, "\n".join(faults)
