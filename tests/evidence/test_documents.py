"""Records and manifests are read strictly, and written as they are read."""

import json
from typing import Any

import pytest

from bankllm.errors import RunError
from bankllm.evidence.documents import Manifest, Record, as_json, parse
from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.records import read_records

RAW = {"path": "raw/01_chat.csv", "sha256": "ab", "where": {"kind": "chat"}}
RECORD: dict[str, Any] = {
    "schema_version": 1, "id": "chat.p95_ms", "title": "p95", "notebook": "01", "value": 1.5, "unit": "ms", "n": 200,
    "ci95": [1.0, 2.0], "why_no_ci95": None, "statistic": "percentile", "parameters": {"q": 0.95}, "raw": RAW,
    "conditions": {"users": 1, "files": {"a": None}}, "valid": True, "invalid_because": None,
}  # fmt: skip
MANIFEST: dict[str, Any] = {
    "schema_version": 1, "run_id": "r", "profile": "smoke", "command": "bankllm run", "started": "2026-11-23T10:15:00Z",
    "git_commit": None, "git_dirty": None, "environment": {}, "files": {"a": "b"},
    "notebooks": [{"name": "01", "status": "done", "seconds": 1.5}],
}  # fmt: skip
MISSING = "(missing)"
CHANGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (RECORD, {"unit": MISSING}, "chat.p95_ms: field unit is missing"),
    (RECORD, {"stars": 5}, "chat.p95_ms: field stars is unknown"),
    (RECORD, {"n": "many"}, 'chat.p95_ms: field n: expected int, found "many"'),
    (RECORD, {"value": {}}, "field value: expected float, found {}"),
    (RECORD, {"ci95": [1.0]}, "field ci95: expected tuple[float, float], found [1.0]"),
    (RECORD, {"ci95": ["a", 2.0]}, 'field ci95: expected float, found "a"'),
    (RECORD, {"raw": RAW | {"where": {"kind": 1}}}, "field raw.where.kind: expected str, found 1"),
    (RECORD, {"raw": {"path": "a"}}, "field raw.sha256 is missing"),
    (RECORD, {"conditions": [1]}, "field conditions: expected dict[str, typing.Any], found [1]"),
    (RECORD, {"schema_version": 2}, "newer bankllm (schema version 2, supported: 1)"),
    (MANIFEST, {"started": "yesterday"}, "Invalid isoformat string"),
    (MANIFEST, {"notebooks": [{"name": "01", "status": "fine", "seconds": 1}]}, "field notebooks.0.status: expected"),
    (MANIFEST, {"more": 1}, "field more is unknown"),
    (MANIFEST, {"schema_version": 3}, "newer bankllm (schema version 3, supported: 1)"),
]


@pytest.mark.parametrize(("whole", "change", "fault"), CHANGES, ids=lambda value: str(value)[:40])
def test_a_document_is_rejected_and_the_field_is_named(
    whole: dict[str, Any], change: dict[str, Any], fault: str, tmp_path
) -> None:
    text = json.dumps({key: value for key, value in (whole | change).items() if value is not MISSING})
    is_record = whole is RECORD
    (tmp_path / ("records.jsonl" if is_record else "manifest.json")).write_text(text)
    where = "records.jsonl, line 1: not a measurement record (" if is_record else "manifest.json cannot be read ("
    with pytest.raises(RunError) as found:
        read_records(tmp_path) if is_record else read_manifest(tmp_path)
    assert where in str(found.value)
    assert fault in str(found.value)


@pytest.mark.parametrize(
    "change", [{}, {"value": None, "ci95": None}, {"raw": None}, {"title": "95 \N{GREEK SMALL LETTER MU}s"}]
)
def test_a_record_is_read_as_it_was_written(change: dict[str, Any]) -> None:
    record = parse(json.dumps(RECORD | change), Record)
    assert json.loads(as_json(record)) == RECORD | change
    assert "\n" not in as_json(record)
    without_version = {key: value for key, value in (RECORD | change).items() if key != "schema_version"}
    assert parse(json.dumps(without_version), Record) == record


@pytest.mark.parametrize("change", [{}, {"finished": None}, {"finished": "2026-11-23T10:15:00.25Z", "renderer": "a"}])
def test_a_manifest_is_read_as_it_was_written(change: dict[str, Any]) -> None:
    manifest = parse(json.dumps(MANIFEST | change), Manifest)
    assert parse(as_json(manifest, indent=2), Manifest) == manifest


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}', "[Infinity]", "{", "[]", "null", '"text"'])
def test_ambiguous_json_and_other_documents_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"duplicate key|is not JSON|Expecting|field document: expected Record"):
        parse(text, Record)
