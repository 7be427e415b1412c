"""The seal of a run: a hash of the manifest, and the summary of data sets and models that the manifest repeats.

Standard library only: this module is part of the `verify.py` that every run contains.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

MANIFEST = "manifest.json"
VERIFIER = "verify.py"
UNSEALED = "0" * 64
"""Placeholder for the seal while the hash is computed."""
DATA_KEYS = ("train_rows", "test_rows", "intents", "train_sha256", "test_sha256")
"""Conditions of a record that describe its data set."""


def seal_of(content: bytes, seal: str) -> str:
    """Computes the seal of a manifest: the sha256 of `content` with the last occurrence of `seal` replaced by zeros."""
    head, _, tail = content.rpartition(seal.encode())
    return hashlib.sha256(head + UNSEALED.encode() + tail).hexdigest()


def data_of(records: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Returns name → row counts and sha256 of every data set in the records (`datasets.Dataset.conditions`)."""
    return {
        record.conditions["dataset"]: {key: record.conditions[key] for key in DATA_KEYS if key in record.conditions}
        for record in records
        if "dataset" in record.conditions
    }


def models_of(records: Sequence[Any]) -> dict[str, str | None]:
    """Returns name → sha256 of the weights of every base model in the records."""
    with_model = [record.conditions for record in records if "model" in record.conditions]
    return {conditions["model"]: conditions.get("model_sha256") for conditions in with_model}
