"""Describe a run as an RO-Crate: which software made it, from which data and models, and which files it contains.

Research repositories and workflow tools can read this description. Specification: https://w3id.org/ro/crate
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bankllm import __version__
from bankllm.evidence.format import format_value
from bankllm.evidence.manifest import MANIFEST, Manifest, data_of, models_of
from bankllm.evidence.records import Record, read_records
from bankllm.evidence.report.render import REPOSITORY
from bankllm.evidence.report.summary import headlines
from bankllm.evidence.verification.run_checks import list_files
from bankllm.util.atomic_files import write_text
from bankllm.util.file_hash import sha256_file

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

METADATA = "ro-crate-metadata.json"
LICENCE = "https://spdx.org/licenses/Apache-2.0"


def write_crate(folder: Path, manifest: Manifest) -> Path | None:
    """Write `ro-crate-metadata.json` to the run folder and return its path; always the same bytes for the same run.

    Without the extra `bankllm[share]` an earlier description is deleted, because its hashes may no longer hold, and
    None is returned.
    """
    path = folder / METADATA
    try:
        from rocrate.rocrate import ROCrate
    except ImportError:
        path.unlink(missing_ok=True)
        return None
    records = read_records(folder)
    crate = ROCrate()
    crate.name = f"bankllm run {manifest.run_id}"
    crate.description = "Measurements of a banking assistant; `bankllm verify` recomputes each from its raw rows."
    crate.datePublished = manifest.started
    crate.license = _add(crate, LICENCE, "CreativeWork", name="Apache License 2.0")
    crate.root_dataset["variableMeasured"] = [_measured(crate, record) for record in headlines(records)]
    names = sorted({MANIFEST, *list_files(folder)[0]} - {METADATA})
    files = [_add_file(crate, folder, folder / name) for name in names if (folder / name).is_file()]
    used = [
        _add(crate, f"#data-{number}", "Dataset", name=name, **facts)
        for number, (name, facts) in enumerate(sorted(data_of(records).items()), start=1)
    ]
    used += [
        _add(crate, f"#model-{name}", "CreativeWork", name=name, sha256=sha256)
        for name, sha256 in sorted(models_of(records).items())
    ]
    software = {"name": "bankllm", "softwareVersion": __version__, "url": REPOSITORY}
    if manifest.git_commit:
        software["version"] = manifest.git_commit
    action = crate.add_action(
        _add(crate, "#bankllm", "SoftwareApplication", **software),
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
    write_text(path, json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return path


def _add(crate: "ROCrate", id: str, type: str, **properties: Any) -> Any:
    from rocrate.model.contextentity import ContextEntity

    return crate.add(ContextEntity(crate, id, properties={"@type": type} | properties))


def _measured(crate: "ROCrate", record: Record) -> Any:
    properties = {
        "propertyID": record.id,
        "name": record.title,
        "value": record.value,
        "unitText": record.unit,
        "description": f"{format_value(record)}, n = {record.n}",
    }
    if record.ci95:
        properties |= {"minValue": record.ci95[0], "maxValue": record.ci95[1]}
    return _add(crate, f"#{record.id}", "PropertyValue", **properties)


def _add_file(crate: "ROCrate", folder: Path, path: Path) -> Any:
    name = path.relative_to(folder).as_posix()
    properties = {"name": name}
    if name != MANIFEST:  # the manifest contains the sha256 of this description, which cannot contain the manifest's
        properties |= {"contentSize": str(path.stat().st_size), "sha256": sha256_file(path)}
    return crate.add_file(path, dest_path=name, properties=properties)
