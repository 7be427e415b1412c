"""The JSON Schemas of a record and of the manifest. The verifier checks a run against them.

`make_schemas` generates them from the pydantic models into `schema/`, one file per version.
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
    """Returns schema name → JSON Schema."""
    return {name: json.loads(path_of(name).read_text(encoding="utf-8")) for name in NAMES}


def path_of(name: str) -> Path:
    """Returns the path of a schema in the package."""
    return FOLDER / f"{name}.v{VERSION}.json"
