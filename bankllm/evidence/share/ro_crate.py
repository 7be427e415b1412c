"""Describe a run as an RO-Crate: which software made it, from which data and models, and which files it contains.

Research repositories and workflow tools can read this description. Specification: https://w3id.org/ro/crate
"""

import json
from pathlib import Path
from typing import Any

from bankllm import __version__
from bankllm.evidence.manifest import MANIFEST, Manifest
from bankllm.evidence.records import read_records
from bankllm.evidence.report.render import REPOSITORY
from bankllm.evidence.report.summary import headlines
from bankllm.evidence.verification.crate_checks import METADATA, crate_facts
from bankllm.evidence.verification.run_checks import files_to_seal
from bankllm.util.atomic_files import write_text

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
    hashes = files_to_seal(folder, manifest.files)
    facts = crate_facts(manifest, records, hashes)
    ids = [f"#{record.id}" for record in headlines(records)]
    crate.root_dataset["variableMeasured"] = [add(id, "PropertyValue", **facts[id]) for id in ids]
    # The manifest contains the sha256 of this description, which cannot contain the manifest's.
    files = [
        crate.add_file(folder / name, dest_path=name, properties={"name": name, **facts.get(name, {})})
        for name in (*hashes, MANIFEST)
    ]
    kinds = {"#data-": "Dataset", "#model-": "CreativeWork"}
    used = [add(id, kind, **facts[id]) for start, kind in kinds.items() for id in facts if id.startswith(start)]
    software = {"name": "bankllm", "softwareVersion": __version__, "url": REPOSITORY, **facts["#bankllm"]}
    action = crate.add_action(
        add("#bankllm", "SoftwareApplication", **software),
        identifier="#run",
        object=used,
        result=files,
        properties={"actionStatus": "http://schema.org/CompletedActionStatus", **facts["#run"]},
    )
    crate.root_dataset["mentions"] = [action]
    write_text(path, json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return path
