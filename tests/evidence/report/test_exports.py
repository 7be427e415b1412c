"""Exports: unrounded numbers in CSV, badges in the format of shields.io, a valid CITATION.cff."""

import csv
import json
from pathlib import Path

import yaml

from bankllm.evidence.records import read_records
from bankllm.evidence.report.exports import badges
from tests.support.sealed_run import TELLER77, sealed_run


def test_csv_contains_every_record_unrounded(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path / "run")
    records = read_records(folder)
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [record.id for record in records]
    for row, record in zip(rows, records, strict=True):
        assert (float(row["value"]) if row["value"] else None) == record.value
        assert (row["ci95_low"] != "") == (record.ci95 is not None)
        assert (row["status"], row["n"]) == (record.status, str(record.n))
        assert row["raw_sha256"] == (record.raw.sha256 if record.raw else "")
        assert (row["dataset"], row["profile"]) == ("banking77", "quick")


def test_badges_follow_the_endpoint_schema_and_name_teller77(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path / "run", data=TELLER77)
    found = {path.stem: json.loads(path.read_text()) for path in (folder / "badges").iterdir()}
    for badge in found.values():
        assert set(badge) == {"schemaVersion", "label", "message", "color"}
        assert badge["schemaVersion"] == 1
    assert found["training.lora_r8.accuracy"]["message"] == "93.0 %"
    assert found["training.lora_r8.accuracy"]["label"] == "LoRA r=8: accuracy (teller77)"
    assert found["records"]["message"] == "6 of 8"
    assert json.loads(badges([])["records.json"])["color"] == "lightgrey"


def test_the_citation_has_the_required_fields(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path / "run")
    cited = yaml.safe_load((folder / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # required by schema 1.2.0
    assert (cited["cff-version"], cited["type"], cited["commit"]) == ("1.2.0", "dataset", "d" * 40)
    assert cited["title"] == "bankllm run run: 6 measured records with their raw rows"
    assert str(cited["date-released"]) == "2026-11-23"
    assert cited["authors"] == [{"name": "The bankllm contributors"}]
