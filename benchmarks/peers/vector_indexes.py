"""Libraries with an index in memory and without a log: a row is durable after the whole index file is rewritten.

index = Usearch(folder, dim=384)
index.insert("all", rows)
index.save("all")
index.search("all", query, 10)
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from vector_stores import Customer, Rows


class Faiss:
    """FAISS's exact index; a partition is an index with a separate file."""

    saves_itself = False

    def __init__(self, folder: Path, dim: int) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self._faiss, self._folder, self._dim = faiss, folder, dim
        self._indexes = {path.stem: self._configure(faiss.read_index(str(path))) for path in folder.glob("*.index")}

    def insert(self, partition: str, rows: Rows) -> None:
        if partition not in self._indexes:
            self._indexes[partition] = self._configure(self._faiss.IndexIDMap(self._empty()))
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

    def _empty(self) -> Any:
        return self._faiss.IndexFlatIP(self._dim)

    def _configure(self, index: Any) -> Any:
        return index


class FaissHnsw(Faiss):
    """FAISS's HNSW graph with the default parameters of usearch, so that the two can be compared."""

    def _empty(self) -> Any:
        index = self._faiss.IndexHNSWFlat(self._dim, 16, self._faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 128
        return index

    def _configure(self, index: Any) -> Any:
        self._faiss.downcast_index(index.index).hnsw.efSearch = 64
        return index


class Usearch:
    """usearch's HNSW graph with its default parameters; a partition is an index with a separate file."""

    saves_itself = False

    def __init__(self, folder: Path, dim: int) -> None:
        from usearch.index import Index

        self._new = lambda: Index(ndim=dim, metric="ip", dtype="f32")
        self._folder = folder
        self._indexes = {path.stem: Index.restore(str(path)) for path in folder.glob("*.index")}

    def insert(self, partition: str, rows: Rows) -> None:
        if partition not in self._indexes:
            self._indexes[partition] = self._new()
        self._indexes[partition].add(rows.ids, rows.vectors, threads=1)

    def save(self, partition: str) -> None:
        write_durably(self._folder / f"{partition}.index", self._indexes[partition].save)

    def search(self, partition: str, query: np.ndarray, top_k: int, customer: Customer | None = None) -> list[int]:
        return self._indexes[partition].search(query, top_k, threads=1).keys.tolist()

    def count(self) -> int:
        return sum(len(index) for index in self._indexes.values())


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
