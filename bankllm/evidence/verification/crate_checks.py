"""Check that the RO-Crate of a run says of its files, records, data, models and origin what the run says."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bankllm.errors import RunError
from bankllm.evidence.documents import Manifest, Record
from bankllm.evidence.format import format_value
from bankllm.evidence.manifest import VERIFIER, data_of, models_of
from bankllm.evidence.verification.record_checks import Finding, broken, read_text

METADATA = "ro-crate-metadata.json"


def crate_facts(manifest: Manifest, records: Sequence[Record], hashes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Returns the id of each entity of the crate → its properties that follow from the run. `hashes` are its files."""
    facts: dict[str, dict[str, Any]] = {name: {"sha256": sha256} for name, sha256 in hashes.items()}
    for one in records:
        facts[f"#{one.id}"] = {"propertyID": one.id, "name": one.title, "value": one.value, "unitText": one.unit}
        facts[f"#{one.id}"] |= {"description": f"{format_value(one)}, n = {one.n}"}
        facts[f"#{one.id}"] |= dict(zip(("minValue", "maxValue"), one.ci95 or (), strict=False))
    data, models = sorted(data_of(records).items()), sorted(models_of(records).items())
    facts |= {f"#data-{n}": {"name": name, **about} for n, (name, about) in enumerate(data, start=1)}
    facts |= {f"#model-{name}": {"name": name, "sha256": sha256} for name, sha256 in models}
    facts["#bankllm"] = {"version": manifest.git_commit} if manifest.git_commit else {}
    facts["#run"] = {"name": f"bankllm run --profile {manifest.profile}", "startTime": manifest.started.isoformat()}
    facts["#run"] |= {"description": json.dumps(manifest.environment, sort_keys=True)}
    return facts


def check_crate(folder: Path, manifest: Manifest, records: Sequence[Record]) -> Iterator[Finding]:
    """Yields a finding for each property that differs. `verify.pyz` is written after the crate and may differ."""
    try:
        entities = {
            unquote(entity["@id"]): dict(entity) for entity in json.loads(read_text(folder, METADATA))["@graph"]
        }
    except (RunError, ValueError, LookupError, TypeError, RecursionError) as error:
        yield broken(METADATA, f"is not a valid RO-Crate ({error!r})")
        return
    described = {name: sha256 for name, sha256 in manifest.files.items() if name not in (METADATA, VERIFIER)}
    for id, properties in crate_facts(manifest, records, described).items():
        for key, expected in properties.items() if id in entities or id in described else ():
            if (found := entities.get(id, {}).get(key)) != expected:
                yield broken(METADATA, f"{id}: {key}: expected {expected!r}, found {found!r}")
