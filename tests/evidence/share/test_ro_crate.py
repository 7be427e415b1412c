"""The RO-Crate of a run can be loaded by `rocrate` and has the properties that the specification requires."""

import hashlib
import sys
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.share.ro_crate import write_crate
from bankllm.evidence.verification.crate_checks import METADATA
from bankllm.evidence.verification.verify import verify


def test_the_crate_has_the_required_properties(folder: Path) -> None:
    crate = ROCrate(folder)
    root = crate.root_dataset.properties()
    assert root["@type"] == "Dataset"
    for required in ("name", "description", "datePublished", "license"):  # RO-Crate, root data entity: MUST
        assert root[required], required
    assert root["datePublished"].startswith("2026-11-23")
    assert crate.metadata.properties()["about"] == {"@id": "./"}
    assert crate.metadata.properties()["conformsTo"]["@id"].startswith("https://w3id.org/ro/crate/1.")
    assert crate.dereference("https://spdx.org/licenses/Apache-2.0")["name"] == "Apache License 2.0"


def test_the_crate_lists_every_file_with_its_sha256(folder: Path) -> None:
    listed = {entity.id: entity.properties() for entity in ROCrate(folder).data_entities}
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(listed) >= present - {METADATA, "verify.pyz"}
    rows = folder / "raw" / "01_chat.csv.gz"
    assert listed["raw/01_chat.csv.gz"]["sha256"] == hashlib.sha256(rows.read_bytes()).hexdigest()


def test_the_crate_describes_software_inputs_and_measurements(folder: Path) -> None:
    crate = ROCrate(folder)
    action = crate.dereference("#run")
    assert action["instrument"]["softwareVersion"]
    assert {entity["name"] for entity in action["object"]} == {"banking77", "all-MiniLM-L6-v2"}
    measured = crate.dereference("#training.lora_r8.accuracy")
    assert (measured["@type"], measured["value"], measured["unitText"]) == ("PropertyValue", 0.93, "share")
    assert measured["minValue"] < 0.93 < measured["maxValue"]


def test_the_crate_is_sealed_and_deterministic(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert METADATA in manifest.files
    assert verify(folder).holds
    write_crate(folder, manifest)
    first = (folder / METADATA).read_bytes()
    write_crate(folder, manifest)
    assert (folder / METADATA).read_bytes() == first


def test_without_the_extra_no_crate_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    assert write_crate(folder, read_manifest(folder)) is None
    assert not (folder / METADATA).exists()
