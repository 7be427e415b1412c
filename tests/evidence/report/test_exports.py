"""Exports: unrounded numbers in CSV and JSON, badges in the format of shields.io, a valid CITATION.cff."""

import csv
import io
import json
from pathlib import Path

import yaml

from bankllm.evidence.records import read_records
from bankllm.evidence.report.exports import COLUMNS, badges
from tests.support.sealed_run import TELLER77, sealed_run


def test_csv_and_json_contain_every_record_unrounded(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path / "run")
    records = read_records(folder)
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text(encoding="utf-8"))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["id"] for row in rows] == [record.id for record in records]
    for row, record in zip(rows, records, strict=True):
        assert (float(row["value"]) if row["value"] else None) == record.value
        assert (row["ci95_low"] != "") == (record.ci95 is not None)
        assert row["status"] == record.status
    document = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert document["run"]["commit"] == "d" * 40
    assert [entry["value"] for entry in document["records"]] == [record.value for record in records]


def test_badges_follow_the_endpoint_schema_and_name_teller77(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path / "run", data=TELLER77)
    found = {path.stem: json.loads(path.read_text()) for path in (folder / "badges").iterdir()}
    for badge in found.values():
        assert set(badge) == {"schemaVersion", "label", "message", "color"}
        assert badge["schemaVersion"] == 1
    assert found["training.lora_r8.accuracy"]["message"] == "93.0 %"
    assert found["training.lora_r8.accuracy"]["label"] == "LoRA r=8: accuracy (teller77)"
    assert found["records"]["message"] == "6 of 8"


def test_a_run_without_a_measured_record_has_a_grey_badge() -> None:
    assert json.loads(badges([])["records.json"])["color"] == "lightgrey"


def test_the_citation_has_the_required_fields(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path / "run")
    cited = yaml.safe_load((folder / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # required by schema 1.2.0
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] == "dataset"
    assert str(cited["date-released"]) == "2026-11-23"
    assert cited["authors"] == [{"name": "The bankllm contributors"}]
