"""The published JSON Schemas of a record and of the manifest: `python -m bankllm.evidence.schemas` writes them anew.

They are made from the models (a test holds them equal), lie in `schema/` by version, and are what the verifier checks
a run against. A change that old readers cannot stand gets a new version.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "schema"
VERSION = 1
NAMES = ("record", "manifest")


@cache
def load_schemas() -> dict[str, dict[str, Any]]:
    """Name → schema, as published."""
    return {name: json.loads(path_of(name).read_text(encoding="utf-8")) for name in NAMES}


def path_of(name: str) -> Path:
    """Where a schema lies in the package."""
    return FOLDER / f"{name}.v{VERSION}.json"


def make_schemas() -> dict[str, str]:
    """Name → text of the schema, from the models."""
    from bankllm.evidence.manifest import Manifest
    from bankllm.evidence.records import Record

    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {
        name: json.dumps(dialect | model.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
        for name, model in (("record", Record), ("manifest", Manifest))
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in make_schemas().items():
        path_of(name).write_text(text, encoding="utf-8")
