"""A reference model for store tests: rows generated from seeds, and the expected result of a search over them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from bankllm.vectors.pinecone.index import PineconeIndex
from bankllm.vectors.pinecone.replicated import ReplicatedStore
from bankllm.vectors.rows import Row, unit_vectors
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.pinecone_server import API_KEY, PineconeServer
from tests.support.server_client import until

DIM = 8
EMBEDDER = "test-embedder@0123"
CUSTOMERS = ("CUST001", "CUST002")
MODEL = {f"m{seed}": seed for seed in range(1, 30)}
"""Ids and seeds of the rows in the fixture `filled`."""


def vector_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32)


def row(id_: str, seed: int) -> Row:
    return Row(id_, f"text {seed}", vector_of(seed))


def texts(store: SQLiteStore, customer: str, seed: int = 0, top_k: int = 1000) -> list[str]:
    """Return the texts that a search finds, best first; by default those of all rows."""
    return [match.text for match in store.search(customer, vector_of(seed), top_k)]


def expected_texts(model: dict[str, int], seed: int = 0) -> list[str]:
    """Return the texts that a search must find, best first. `model` maps ids to seeds."""
    query = unit_vectors([vector_of(seed)], DIM)[0]
    scores = {seed: float(unit_vectors([vector_of(seed)], DIM)[0] @ query) for seed in model.values()}
    return [f"text {seed}" for seed in sorted(model.values(), key=lambda seed: -scores[seed])]


def sql(path: Path, query: str) -> list[tuple]:
    """Run one statement on a store's file with a separate connection."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(query).fetchall()


def is_intact(path: Path) -> bool:
    """Whether SQLite's integrity check finds no error."""
    return sql(path, "PRAGMA integrity_check") == [("ok",)]


def bytes_beside(path: Path) -> bytes:
    """Return the bytes of the file and of its journal files."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(path.name + "*")))


def open_replicated(
    server: PineconeServer,
    path: Path,
    search_s: float = 10,
    dim: int = DIM,
    embedder_id: str = EMBEDDER,
) -> ReplicatedStore:
    """Open a store that replicates the file to the index `index` of a local server."""

    def connect() -> PineconeIndex:
        return PineconeIndex(API_KEY, "index", dim, embedder_id, host=server.url, timeout_s=0.5)

    return ReplicatedStore(path, dim, embedder_id, connect, target="index", search_s=search_s)


def drain(store: ReplicatedStore) -> None:
    """Wait until a replicated store has pushed all changes."""
    until(lambda: store.backlog().depth == 0)
