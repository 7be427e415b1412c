"""Generate the JSON Schemas of a record and of the manifest from the pydantic models, into `schema/`.

    python -m bankllm.evidence.verification.make_schemas

A test compares the files with the models. A change that old readers cannot read needs a new schema version.
"""

import json

from bankllm.evidence.manifest import Manifest
from bankllm.evidence.records import Record
from bankllm.evidence.verification.schemas import FOLDER, path_of


def make_schemas() -> dict[str, str]:
    """Returns schema name → text of the JSON Schema."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {
        name: json.dumps(dialect | model.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
        for name, model in (("record", Record), ("manifest", Manifest))
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in make_schemas().items():
        path_of(name).write_text(text, encoding="utf-8")
