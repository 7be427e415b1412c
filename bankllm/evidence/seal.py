"""The seal of a run: the names that a run's manifest gives to its parts, and the hash that covers the manifest.

Standard library only: this module is part of the verifier that each run carries.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

MANIFEST = "manifest.json"
VERIFIER = "verify.py"
UNSEALED = "0" * 64
"""What stands in the seal's place while the seal is taken."""
DATA_KEYS = ("train_rows", "test_rows", "intents", "train_sha256", "test_sha256")


def seal_of(content: bytes, seal: str) -> str:
    """The seal of a manifest's bytes, which carry `seal`: sha256 with zeros in its place."""
    head, _, tail = content.rpartition(seal.encode())
    return hashlib.sha256(head + UNSEALED.encode() + tail).hexdigest()


def data_of(records: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Every data set that the records name, with its row counts and sha256 (`Dataset.conditions`)."""
    return {
        record.conditions["dataset"]: {key: record.conditions[key] for key in DATA_KEYS if key in record.conditions}
        for record in records
        if "dataset" in record.conditions
    }


def models_of(records: Sequence[Any]) -> dict[str, str | None]:
    """Every base model that the records name, with the sha256 of its weights."""
    conditions = [record.conditions for record in records if "model" in record.conditions]
    return {mine["model"]: mine.get("model_sha256") for mine in conditions}
