"""Every tampering with a run is detected and named, by `bankllm verify` and by the run's `verify.pyz`.

`make test-tamper` runs all of them and prints their number by kind; `make test` runs some of each kind.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bankllm.util.sampling import subset
from tests.support.every_kind import NOTEBOOKS, run_of_every_kind
from tests.support.mutations import (
    CHAT,
    ROWS_OF,
    SEAL,
    VALID,
    of_crate,
    of_models,
    of_notebooks,
    of_pages,
    of_plots,
    of_rows,
)
from tests.support.sealed_run import BANKING77, TELLER77
from tests.support.tampering import (
    Standalone,
    Tampering,
    added,
    content,
    fields,
    lines,
    linked,
    listed,
    other,
    removed,
    renamed,
    replaced,
    standalone,
    swapped,
    undetected,
)

BUSY = "raw/01_load_openloop_summary.csv.gz"
ANSWERS = "raw/01_answers.csv.gz"
NB = f"notebooks/{NOTEBOOKS[0]}.ipynb"
P95, P99, ACCURACY = "chat.sequential.p95_ms", "chat.sequential.p99_ms", "training.lora_r8.accuracy"
SOAK = "load.soak.memory"

FORGED: list[tuple[str, dict[str, Any], str]] = [
    (P95, {"value": 189.9}, f"{P95}: value: recorded 189.9, recomputed 190.0"),
    (P95, {"parameters": {"q": 0.9}}, P95),
    (P95, {"unit": "s"}, f"{P95}: expected unit ms, found s"),
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
    (P99, VALID, f"{P99}: recorded as valid, but p99 needs"),
    (P99, {**VALID, "value": 198.0}, P99),
    (ACCURACY, {"parameters": {"predicted": "actual"}}, ACCURACY),
    (ACCURACY, {"conditions": {"profile": "full"}}, "manifest.json: profile quick differs"),
    (ACCURACY, {"conditions": {"dataset": "banking77"}}, "named 'banking77', but its test_sha256 is that of teller77"),
    (ACCURACY, {"conditions": {"test_rows": 3080}}, "manifest.json: data: teller77 differs"),
    (ACCURACY, {"conditions": {"model": "bge-large"}}, "'bge-large', but its model_sha256 is that of all-MiniLM-L6-v2"),
    (ACCURACY, {"conditions": BANKING77}, "manifest.json: data: banking77 differs"),
    ("load.openloop.p95_ms", VALID, "load.openloop.p95_ms"),
    ("load.health.p95_ms", VALID, "load.health.p95_ms: recorded as valid, but the server restarted"),
    (SOAK, VALID, f"{SOAK}: recorded as valid, but the soak was cut short"),
    ("load.locust.p95_ms", {"value": 31.0}, "has a value without a raw"),
    ("load.locust.p95_ms", {"invalid_because": None}, "gives no reason"),
    ("load.ab.throughput", {"unit": "ms"}, "expected a unit that ends in /s"),
]
LINES: list[tuple[str, Callable[[list[str]], list[str]], str]] = [
    ("a field less", lambda ls: [ls[0].replace('"n":200,', ""), *ls[1:]], f"{ACCURACY}: field n is missing"),
    ("a record dropped", lambda ls: ls[1:], "RESULTS.md: line"),
    ("a record twice", lambda ls: [*ls, ls[1]], "training.lora_r8.train_s: is in records.jsonl more than once"),
    ("an excluded record dropped", lambda ls: [x for x in ls if SOAK not in x], f"{SOAK}: is excluded by a file"),
    ("a line cut short", lambda ls: [ls[0][:80], *ls[1:]], "records.jsonl, line 1: not a measurement record"),
    ("a key twice", lambda ls: [ls[0][:-1] + ',"value":1.0}', *ls[1:]], "line 1: not a measurement record: an object"),
    ("no JSON", lambda ls: [re.sub(r'"value":[\d.]+', '"value":NaN', ls[0]), *ls[1:]], "NaN is not JSON"),
]


def of_records(original: Path) -> Iterator[Tampering]:
    for id, changes, named in FORGED:
        yield Tampering(f"{changes} of {id}", "seals", fields(id, **changes), (named,))
    for what, edit, named in LINES:
        yield Tampering(what, "edits", lines("records.jsonl", edit), (named,))
    yield Tampering("an idle generator", "seals", replaced(BUSY, "0.97", "0.3"), ("load.openloop.p95",))
    yield Tampering("no marks", "seals", removed("raw/01_marks.csv"), (SOAK,))
    yield Tampering("another mark", "seals", replaced("raw/01_marks.csv", "cut short", "fine"), (SOAK,))
    record = json.loads((original / "records.jsonl").read_text().splitlines()[0])
    for field in record.keys() - {"id", "schema_version", "notebook"}:
        new = fields(record["id"], **{field: other(record[field])})
        yield Tampering(f"the record's {field}", "lists", new, (SEAL,))
        named = {"title": f"{NB}: what of", "conditions": "manifest.json"}.get(field, record["id"])
        yield Tampering(f"the record's {field}", "seals", new, (named,))


def of_manifest(original: Path) -> Iterator[Tampering]:
    undone = [{"name": "05_metrics_collection", "status": "done", "seconds": 1.0}]
    for changes in (
        {"data": {}},
        {"data": {"teller77": TELLER77 | {"test_rows": 1}}},
        {"models": {}},
        {"profile": "full"},
        {"complete": True, "finished": None},
        {"notebooks": undone},
        {"schema_version": 2},
    ):
        yield Tampering(f"{changes} in the manifest", "seals", listed(**changes), ("manifest.json: ",))
    for field, value in json.loads((original / "manifest.json").read_text()).items():
        yield Tampering(f"{field} of the manifest", "edits", listed(**{field: other(value)}), ("manifest.json: ",))
    yield Tampering("no manifest field", "edits", replaced("manifest.json", "run_id", "id"), ("manifest.json: cannot",))


def of_files(original: Path) -> Iterator[Tampering]:
    names = [path.relative_to(original).as_posix() for path in sorted(original.rglob("*")) if path.is_file()]
    names.remove("manifest.json")
    for number, name in enumerate(names):
        yield Tampering(
            f"the last byte of {name}", "edits", content(name, lambda text: text[:-1] + "~"), (f"{name}: ",)
        )
        change = (removed, linked, renamed)[number % 3](name)
        yield Tampering(f"{name} removed, linked or renamed", "edits", change, (f"{name}: ",))
    for name in ("raw/04_more.csv", "raw/manifest.json", ".hidden", "notebooks/x/y.txt"):
        yield Tampering(f"{name} added", "edits", added(name), (name,))
        yield Tampering(f"{name} added", "lists", added(name), (SEAL,))
    for one, two in ((CHAT, ANSWERS), ("RESULTS.md", "RESUME.md")):
        yield Tampering(f"{one} and {two} swapped", "edits", swapped(one, two), (one,))
    yield Tampering("raw files swapped", "seals", swapped(CHAT, ANSWERS), (P95,))


KINDS: dict[str, Callable[[Path], Iterator[Tampering]]] = {
    **{kind: partial(of_rows, prefixes=prefixes) for kind, prefixes in ROWS_OF.items()},
    "model cards and weights": of_models,
    "pages": of_pages,
    "notebooks": of_notebooks,
    "plots": of_plots,
    "RO-Crate": of_crate,
    "manifest": of_manifest,
    "records": of_records,
    "files": of_files,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of_every_kind(tmp_path_factory.mktemp("original") / "run")


@pytest.fixture(scope="module")
def alone(original: Path) -> Iterator[Standalone]:
    with standalone(original / "verify.pyz") as findings:
        yield findings


def missed(original: Path, folder: Path, alone: Standalone, some: list[Tampering]) -> str:
    return "\n".join(fault for one in some if (fault := undetected(original, folder, alone, one)))


@pytest.mark.parametrize("kind", KINDS)
def test_some_tamperings_of_each_kind_are_detected_and_named_by_both_verifiers(
    original: Path, tmp_path: Path, alone: Standalone, kind: str
) -> None:
    assert missed(original, tmp_path / "run", alone, subset(list(KINDS[kind](original)), 3)) == ""


@pytest.mark.tamper
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_every_tampering_is_detected_and_named_by_both_verifiers(
    original: Path, tmp_path: Path, alone: Standalone, kind: str
) -> None:
    every = list(KINDS[kind](original))
    assert missed(original, tmp_path / "run", alone, every) == ""
    print(f"{kind}: {len(every)} mutations, each found and named by both verifiers")


@pytest.mark.tamper
def test_there_are_500_different_tamperings(original: Path) -> None:
    every = Counter((one.what, one.attacker) for made in KINDS.values() for one in made(original))
    assert len(every) == every.total() >= 500
    print(f"all kinds: {every.total()} mutations")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("RESULTS.md", "measured in this run", "faster"), ("CITATION.cff", " measured", "00 measured")],
)
def test_false_prose_is_found_by_the_command_which_can_render_the_pages_again(
    original: Path, tmp_path: Path, alone: Standalone, name: str, old: str, new: str
) -> None:
    prose = Tampering("prose", "seals", replaced(name, old, new), (f"{name}: differs from the page",))
    assert missed(original, tmp_path / "run", alone, [prose]) == ""
