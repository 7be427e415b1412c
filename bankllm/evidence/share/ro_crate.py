"""Describe a run as an RO-Crate: which software made it, from which data and models, and which files it contains.

Research repositories and workflow tools can read this description. Specification: https://w3id.org/ro/crate
"""

import json
from pathlib import Path
from typing import Any

from bankllm import __version__
from bankllm.evidence.format import format_value
from bankllm.evidence.manifest import MANIFEST, Manifest, data_of, models_of
from bankllm.evidence.records import Record, read_records
from bankllm.evidence.report.render import REPOSITORY
from bankllm.evidence.report.summary import headlines
from bankllm.evidence.verification.run_checks import hash_files
from bankllm.util.atomic_files import write_text

METADATA = "ro-crate-metadata.json"
LICENCE = "https://spdx.org/licenses/Apache-2.0"


def write_crate(folder: Path, manifest: Manifest) -> Path | None:
    """Write `ro-crate-metadata.json` to the run folder and return its path; always the same bytes for the same run.

    Without the extra `bankllm[share]` an earlier description is deleted, because its hashes may no longer hold, and
    None is returned.
    """
    path = folder / METADATA
    path.unlink(missing_ok=True)
    try:
        from rocrate.rocrate import ROCrate
    except ImportError:
        return None
    records = read_records(folder)
    crate = ROCrate()

    def add(id: str, type: str, **properties: Any) -> Any:
        return crate.add_jsonld({"@id": id, "@type": type, **properties})

    crate.name = f"bankllm run {manifest.run_id}"
    crate.description = "Measurements of a banking assistant; `bankllm verify` recomputes each from its raw rows."
    crate.datePublished = manifest.started
    crate.license = add(LICENCE, "CreativeWork", name="Apache License 2.0")
    measured = [add(f"#{record.id}", "PropertyValue", **_facts(record)) for record in headlines(records)]
    crate.root_dataset["variableMeasured"] = measured
    facts = {name: {"sha256": sha256} for name, sha256 in hash_files(folder)[0].items()}
    facts[MANIFEST] = {}  # it contains the sha256 of this description, which cannot contain the manifest's
    files = [
        crate.add_file(folder / name, dest_path=name, properties={"name": name, **properties})
        for name, properties in facts.items()
    ]
    data, models = sorted(data_of(records).items()), sorted(models_of(records).items())
    used = [add(f"#data-{n}", "Dataset", name=name, **about) for n, (name, about) in enumerate(data, start=1)]
    used += [add(f"#model-{name}", "CreativeWork", name=name, sha256=sha256) for name, sha256 in models]
    software = {"name": "bankllm", "softwareVersion": __version__, "url": REPOSITORY}
    if manifest.git_commit:
        software["version"] = manifest.git_commit
    action = crate.add_action(
        add("#bankllm", "SoftwareApplication", **software),
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


def _facts(record: Record) -> dict[str, Any]:
    facts: dict[str, Any] = {"propertyID": record.id, "name": record.title, "value": record.value}
    facts |= {"unitText": record.unit, "description": f"{format_value(record)}, n = {record.n}"}
    return facts | (dict(zip(("minValue", "maxValue"), record.ci95, strict=True)) if record.ci95 else {})
