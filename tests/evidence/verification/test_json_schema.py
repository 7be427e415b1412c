"""The published schemas equal the pydantic models, and the validator agrees with pydantic."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bankllm.errors import RunError
from bankllm.evidence.manifest import Manifest
from bankllm.evidence.records import Record
from bankllm.evidence.run import Run
from bankllm.evidence.verification.json_schema import parse_json, validate
from bankllm.evidence.verification.make_schemas import make_schemas
from bankllm.evidence.verification.schemas import load_schemas, path_of

MANIFEST = {
    "schema_version": 1,
    "run_id": "r",
    "profile": "smoke",
    "command": "bankllm run",
    "started": "2026-11-23T10:15:00Z",
    "git_commit": None,
    "git_dirty": None,
    "environment": {},
    "notebooks": [{"name": "01", "status": "done", "seconds": 1.5}],
    "files": {"a": "b"},
}


@pytest.fixture
def record(run: Run) -> dict[str, Any]:
    run.write_rows("chat", ({"ms": i} for i in range(1, 201)))
    measured = run.measure("chat.p95_ms", "percentile", "chat", title="p95", unit="ms", column="ms", q=0.95)
    document: dict[str, Any] = json.loads(measured.model_dump_json())
    return document


@pytest.mark.parametrize("name", ["record", "manifest"])
def test_the_published_schema_equals_the_model(name: str) -> None:
    """After a compatible change, run `python -m bankllm.evidence.verification.make_schemas`."""
    assert path_of(name).read_text(encoding="utf-8") == make_schemas()[name]


RECORD_CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "nothing": lambda d: None,
    "no version, as in the first records": lambda d: d.pop("schema_version"),
    "a later version": lambda d: d.update(schema_version=2),
    "a missing field": lambda d: d.pop("unit"),
    "an extra field": lambda d: d.update(stars=5),
    "a negative n": lambda d: d.update(n=-1),
    "a string for n": lambda d: d.update(n="many"),
    "an object for a value": lambda d: d.update(value={}),
    "no value": lambda d: d.update(value=None),
    "half an interval": lambda d: d.update(ci95=[1.0]),
    "an interval with three ends": lambda d: d.update(ci95=[1.0, 2.0, 3.0]),
    "a string in the interval": lambda d: d.update(ci95=["a", 2.0]),
    "no interval": lambda d: d.update(ci95=None),
    "a list of rows": lambda d: d.update(raw=[]),
    "no rows": lambda d: d.update(raw=None),
    "rows without a hash": lambda d: d["raw"].pop("sha256"),
    "rows with an extra field": lambda d: d["raw"].update(more=1),
    "a number in where": lambda d: d["raw"].update(where={"a": 1}),
    "a string for valid": lambda d: d.update(valid="perhaps"),
    "conditions in a list": lambda d: d.update(conditions=[1]),
}


@pytest.mark.parametrize("change", RECORD_CHANGES)
def test_a_record_is_validated_as_by_pydantic(record: dict[str, Any], change: str) -> None:
    RECORD_CHANGES[change](record)
    try:
        Record.model_validate_json(json.dumps(record))
        fits = True
    except ValidationError:
        fits = False
    assert (validate(record, load_schemas()["record"]) is None) == fits


MANIFEST_CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a later version": {"schema_version": 2},
    "an invalid time": {"started": "yesterday"},
    "an unknown status": {"notebooks": [{"name": "01", "status": "fine", "seconds": 1}]},
    "a notebook with an extra field": {"notebooks": [{"name": "01", "status": "done", "seconds": 1, "more": 1}]},
    "a list of files": {"files": ["a"]},
    "a number for a hash": {"files": {"a": 1}},
    "an extra field": {"more": 1},
    "no end": {"finished": None},
}


@pytest.mark.parametrize("change", MANIFEST_CHANGES)
def test_a_manifest_is_validated_as_by_pydantic(change: str) -> None:
    document = MANIFEST | MANIFEST_CHANGES[change]
    try:
        Manifest.model_validate_json(json.dumps(document))
        fits = True
    except ValidationError:
        fits = False
    assert (validate(document, load_schemas()["manifest"]) is None) == fits


def test_a_fault_names_the_place_and_the_value(record: dict[str, Any]) -> None:
    schema = load_schemas()["record"]
    record["raw"]["where"] = {"kind": 3}
    assert validate(record, schema) == "expected string, found 3 at raw.where.kind"
    assert validate({}, schema) is not None
    with pytest.raises(RunError, match="uses 'pattern', which this verifier does not support"):
        validate("a", {"pattern": "a"})


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}', "[Infinity]", "{"])
def test_ambiguous_json_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"duplicate key|is not JSON|Expecting"):
        parse_json(text)


def test_the_schemas_are_in_the_package() -> None:
    assert {path.name for path in Path(path_of("record")).parent.glob("*.json")} == {
        "record.v1.json",
        "manifest.v1.json",
    }
