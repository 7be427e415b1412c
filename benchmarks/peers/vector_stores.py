"""Our store and the compared libraries with a common interface.

A library is imported when a store is opened, because the peers are installed in a separate folder.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Rows to insert. FAISS stores only ids and vectors."""

    ids: np.ndarray
    """(n,) int64."""
    vectors: np.ndarray
    """(n, dim) float32 of unit length."""
    texts: Sequence[str]
    customers: Sequence[str]


class Customer(NamedTuple):
    """The customer that a search is limited to. FAISS stores no names, so it uses the ids of the rows."""

    name: str
    ids: np.ndarray


class Store(Protocol):
    """Interface of a store. A partition is a namespace, an index, a collection or a table of the library."""

    def insert(self, partition: str, rows: Rows) -> None:
        """Add rows; after `save` they are durable."""

    def save(self, partition: str) -> None:
        """Rewrite and sync the file of the partition; most libraries do that in `insert`."""

    def search(self, partition: str, query: np.ndarray, top_k: int, customer: Customer | None = None) -> list[int]:
        """Return the ids of the nearest rows, nearest first."""

    def count(self) -> int:
        """Return the number of rows in all partitions."""


class Ours(Store):
    """`SQLiteStore`; a partition is a namespace."""

    def __init__(self, folder: Path, dim: int) -> None:
        from bankllm.vectors.rows import Row
        from bankllm.vectors.sqlite.store import SQLiteStore

        self._row = Row
        self._store = SQLiteStore(folder / "memory.sqlite", dim, "benchmark@0")

    def insert(self, partition: str, rows: Rows) -> None:
        columns = zip(rows.ids, rows.vectors, rows.texts, rows.customers, strict=True)
        self._store.upsert(
            partition,
            [self._row(str(id_), text, vector, {"customer": customer}) for id_, vector, text, customer in columns],
        )

    def search(self, partition: str, query: np.ndarray, top_k: int, customer: Customer | None = None) -> list[int]:
        return [int(match.id) for match in self._store.search(partition, query, top_k)]

    def count(self) -> int:
        return self._store.count()


class Faiss(Store):
    """FAISS's exact index; a partition is an index with a separate file."""

    def __init__(self, folder: Path, dim: int) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self._faiss, self._folder, self._dim = faiss, folder, dim
        self._indexes = {path.stem: faiss.read_index(str(path)) for path in folder.glob("*.index")}

    def insert(self, partition: str, rows: Rows) -> None:
        if partition not in self._indexes:
            self._indexes[partition] = self._faiss.IndexIDMap(self._faiss.IndexFlatIP(self._dim))
        self._indexes[partition].add_with_ids(rows.vectors, rows.ids)

    def save(self, partition: str) -> None:
        index = self._indexes[partition]
        write_durably(self._folder / f"{partition}.index", lambda name: self._faiss.write_index(index, name))

    def search(self, partition: str, query: np.ndarray, top_k: int, customer: Customer | None = None) -> list[int]:
        index, settings = self._indexes[partition], None
        if customer:
            selector = self._faiss.IDSelectorBatch(customer.ids)
            settings = self._faiss.SearchParameters(sel=selector)
        found = index.search(query[None], top_k, params=settings)[1][0]
        return found[found >= 0].tolist()

    def count(self) -> int:
        return sum(index.ntotal for index in self._indexes.values())


class Chroma(Store):
    """Chroma's `PersistentClient`; a partition is a collection."""

    def __init__(self, folder: Path, dim: int) -> None:
        import chromadb

        settings = chromadb.Settings(anonymized_telemetry=False)
        self._client = chromadb.PersistentClient(path=str(folder), settings=settings)
        self._collections: dict[str, Any] = {}

    def _collection(self, partition: str) -> Any:
        if partition not in self._collections:
            self._collections[partition] = self._client.get_or_create_collection(
                partition, embedding_function=None, configuration={"hnsw": {"space": "ip", "num_threads": 1}}
            )
        return self._collections[partition]

    def insert(self, partition: str, rows: Rows) -> None:
        max_batch = self._client.get_max_batch_size()
        for start in range(0, len(rows.ids), max_batch):
            part = slice(start, start + max_batch)
            self._collection(partition).add(
                ids=[str(id_) for id_ in rows.ids[part]],
                embeddings=rows.vectors[part],
                documents=list(rows.texts[part]),
                metadatas=[{"customer": customer} for customer in rows.customers[part]],
            )

    def search(self, partition: str, query: np.ndarray, top_k: int, customer: Customer | None = None) -> list[int]:
        where = {"customer": customer.name} if customer else None
        found = self._collection(partition).query(query_embeddings=[query], n_results=top_k, where=where)
        return [int(id_) for id_ in found["ids"][0]]

    def count(self) -> int:
        return sum(collection.count() for collection in self._client.list_collections())


class Lance(Store):
    """LanceDB without a vector index, as recommended up to 100,000 rows; customers are an indexed column."""

    def __init__(self, folder: Path, dim: int) -> None:
        import lancedb
        import pyarrow

        self._arrow, self._db = pyarrow, lancedb.connect(str(folder))
        vector = pyarrow.list_(pyarrow.float32(), dim)
        names = {"id": pyarrow.int64(), "vector": vector, "text": pyarrow.string(), "customer": pyarrow.string()}
        self._schema = pyarrow.schema(names.items())
        self._tables = {path.stem: self._db.open_table(path.stem) for path in folder.glob("*.lance")}

    def insert(self, partition: str, rows: Rows) -> None:
        columns = [rows.ids, list(rows.vectors), list(rows.texts), list(rows.customers)]
        table = self._arrow.Table.from_arrays(
            [self._arrow.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)],
            schema=self._schema,
        )
        if partition in self._tables:
            self._tables[partition].add(table)
        else:
            self._tables[partition] = self._db.create_table(partition, table)
            self._tables[partition].create_scalar_index("customer", index_type="BITMAP")

    def search(self, partition: str, query: np.ndarray, top_k: int, customer: Customer | None = None) -> list[int]:
        query_builder = (
            self._tables[partition].search(query, vector_column_name="vector").distance_type("dot").limit(top_k)
        )
        if customer:
            query_builder = query_builder.where(f"customer = '{customer.name}'", prefilter=True)
        return [row["id"] for row in query_builder.select(["id", "text", "_distance"]).to_list()]

    def count(self) -> int:
        return sum(table.count_rows() for table in self._tables.values())


def write_durably(path: Path, write: Callable[[str], object]) -> None:
    """Replace a file atomically: write a new file, sync it, rename it, and sync the folder."""
    new = path.with_suffix(".new")
    write(str(new))
    _sync(new)
    new.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
