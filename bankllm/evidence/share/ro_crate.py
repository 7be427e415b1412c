"""Describe a run as an RO-Crate: which software made it, from which data and models, and which files it contains.

Research repositories and workflow tools can read this description. `ro-crate-metadata.json` is written to the run
folder before the run is sealed, so the manifest contains its sha256. Specification: https://w3id.org/ro/crate
"""

import json
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bankllm import __version__
from bankllm.evidence.format import format_value
from bankllm.evidence.manifest import Manifest
from bankllm.evidence.records import Record, read_records, sha256_file, write_text
from bankllm.evidence.report.exports import REPOSITORY
from bankllm.evidence.report.summary import headlines
from bankllm.evidence.seal import MANIFEST, data_of, models_of

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

METADATA = "ro-crate-metadata.json"
LICENCE = "https://spdx.org/licenses/Apache-2.0"
MEDIA_TYPES = {
    ".jsonl": "application/jsonl",
    ".ipynb": "application/x-ipynb+json",
    ".md": "text/markdown",
    ".cff": "application/yaml",
    ".gz": "application/gzip",
    ".safetensors": "application/octet-stream",
}
"""File suffix → media type, for suffixes that `mimetypes` does not know."""


def write_crate(folder: Path, manifest: Manifest) -> Path:
    """Write `ro-crate-metadata.json` to the run folder and return its path.

    It describes the files with size and sha256, the machine, the data sets, the models and the headline measurements.
    The same files and manifest give the same bytes.
    """
    from rocrate.rocrate import ROCrate

    records = read_records(folder)
    crate = ROCrate()
    _describe_root(crate, manifest, records)
    files = [_add_file(crate, folder, path) for path in _payload(folder)]
    _add_action(crate, manifest, records, files)
    path = folder / METADATA
    write_text(path, json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return path


def _describe_root(crate: "ROCrate", manifest: Manifest, records: list[Record]) -> None:
    from rocrate.model.contextentity import ContextEntity

    crate.name = f"bankllm run {manifest.run_id}"
    crate.description = (
        f"Measurements of a banking assistant, profile {manifest.profile}: each record in records.jsonl can be "
        "recomputed from its raw rows with `bankllm verify`."
    )
    crate.datePublished = manifest.started
    crate.license = crate.add(
        ContextEntity(crate, LICENCE, properties={"@type": "CreativeWork", "name": "Apache License 2.0"})
    )
    crate.publisher = crate.add(
        ContextEntity(crate, "#contributors", properties={"@type": "Organization", "name": "The bankllm contributors"})
    )
    crate.root_dataset["variableMeasured"] = [_measured(crate, record) for record in headlines(records)]


def _measured(crate: "ROCrate", record: Record) -> Any:
    from rocrate.model.contextentity import ContextEntity

    low, high = record.ci95 or (None, None)
    properties = {
        "@type": "PropertyValue",
        "propertyID": record.id,
        "name": record.title,
        "value": record.value,
        "unitText": record.unit,
        "description": f"{format_value(record)}, n = {record.n}; from {record.raw.path if record.raw else 'nothing'}",
    }
    if low is not None:
        properties |= {"minValue": low, "maxValue": high}
    return crate.add(ContextEntity(crate, f"#{record.id}", properties=properties))


def _payload(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != METADATA)


def _add_file(crate: "ROCrate", folder: Path, path: Path) -> Any:
    name = path.relative_to(folder).as_posix()
    kind = MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    properties: dict[str, Any] = {"name": name, "encodingFormat": kind}
    if (
        path != folder / MANIFEST
    ):  # The manifest contains the sha256 of this file, so this file cannot contain the manifest's.
        properties |= {"contentSize": str(path.stat().st_size), "sha256": sha256_file(path)}
    return crate.add_file(path, dest_path=name, properties=properties)


def _add_action(crate: "ROCrate", manifest: Manifest, records: list[Record], files: list[Any]) -> None:
    from rocrate.model.contextentity import ContextEntity
    from rocrate.model.softwareapplication import SoftwareApplication

    software = crate.add(
        SoftwareApplication(
            crate,
            "#bankllm",
            properties={"name": "bankllm", "softwareVersion": __version__, "url": REPOSITORY}
            | ({"version": manifest.git_commit} if manifest.git_commit else {}),
        )
    )
    used = [
        crate.add(ContextEntity(crate, f"#data-{number}", properties={"@type": "Dataset", "name": name} | facts))
        for number, (name, facts) in enumerate(sorted(data_of(records).items()), start=1)
    ] + [
        crate.add(
            ContextEntity(crate, f"#model-{name}", properties={"@type": "CreativeWork", "name": name, "sha256": sha})
        )
        for name, sha in sorted(models_of(records).items())
    ]
    action = crate.add_action(
        software,
        identifier="#run",
        object=used,
        result=files,
        properties={
            "name": f"bankllm run --profile {manifest.profile}",
            "startTime": manifest.started.isoformat(),
            "actionStatus": "http://schema.org/CompletedActionStatus",
            "description": json.dumps(manifest.environment, sort_keys=True),
        },
    )
    crate.root_dataset["mentions"] = [action]
