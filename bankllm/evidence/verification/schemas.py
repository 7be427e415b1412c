"""The published JSON Schemas of a record and of the manifest, which the verifier checks a run against.

`make_schemas` derives them from the models; they are stored in `schema/` by version.
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
