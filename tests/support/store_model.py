"""A reference model for store tests: rows generated from seeds, and the expected result of a search over them."""

import numpy as np

from bankllm.vectors.rows import Row, unit_vector
from bankllm.vectors.sqlite.store import SQLiteStore

DIM = 8
EMBEDDER = "test-embedder@0123"
CUSTOMERS = ("CUST001", "CUST002")


def vector_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32)


def row(id_: str, seed: int) -> Row:
    return Row(id_, f"text {seed}", vector_of(seed))


def texts(store: SQLiteStore, customer: str, seed: int = 0) -> list[str]:
    """Return the texts of all rows that a search finds, best first."""
    return [match.text for match in store.search(customer, vector_of(seed), 1000)]


def expected_texts(model: dict[str, int], seed: int = 0) -> list[str]:
    """Return the texts that a search must find, best first. `model` maps ids to seeds."""
    query = unit_vector(vector_of(seed), DIM)
    return [f"text {s}" for s in sorted(model.values(), key=lambda s: -float(unit_vector(vector_of(s), DIM) @ query))]
