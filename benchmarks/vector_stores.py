"""Our store and the compared libraries with a common interface.

A peer is imported when its store is opened.
"""

import sys
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from vector_data import Customer, Rows

from bankllm.settings import project_root
from bankllm.util.atomic_files import flush_to_disk
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore

DIM = 384
FOLDER = project_root() / "build" / "peers-vectors"
"""The peers are installed here, because the lock file pins the versions of our environment."""
INSTALL = f"pip install --target {FOLDER} -c requirements.lock faiss-cpu==1.15.1 chromadb==1.5.9 lancedb==0.40.0"
sys.path.append(str(FOLDER))


class Store(Protocol):
    """A store on disk. A partition holds all rows, or those of one customer."""

    package: ClassVar[str]
    title: ClassVar[str]
    partition: ClassVar[str]
    """What the library calls a partition."""
    filters: ClassVar[bool] = True
    """Whether a search can be limited to one customer of a partition."""
    divides: ClassVar[bool] = True
    """Whether a partition per customer is measured."""
    insert_is: ClassVar[str] = "durable"

    @classmethod
    def version(cls) -> str | None:
        """The installed version; None if it is not installed."""
        return next((found.version for found in metadata.distributions(name=cls.package)), None)

    def __init__(self, folder: Path) -> None:
        """Open the store in the folder, which may be empty."""

    def insert(self, partition: str, rows: Rows) -> None:
        """Add rows durably. FAISS stores only ids and vectors."""

    def search(self, partition: str, query: np.ndarray, top_k: int, customer: Customer | None) -> list[int]:
        """Return the ids of the nearest rows, nearest first; those of `customer` if it is given."""

    def count(self) -> int:
        """Return the number of rows in all partitions."""


class Ours(Store):
    package, title, partition, filters = "bankllm", "bankllm", "namespace", False

    def __init__(self, folder: Path) -> None:
        self._store = SQLiteStore(folder / "memory.sqlite", DIM, "benchmark@0")

    def insert(self, partition: str, rows: Rows) -> None:
        made = [Row(str(id_), text, vector, {"customer": name}) for id_, vector, text, name in zip(*rows, strict=True)]
        self._store.upsert(partition, made)

    def search(self, partition: str, query: np.ndarray, top_k: int, customer: Customer | None) -> list[int]:
        return [int(match.id) for match in self._store.search(partition, query, top_k)]

    def count(self) -> int:
        return self._store.count()


class Faiss(Store):
    """The exact index. Each partition has a file, which is rewritten for each insert."""

    package, title, partition, insert_is = "faiss-cpu", "FAISS flat", "index", "file rewritten"

    def __init__(self, folder: Path) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self._faiss, self._folder = faiss, folder
        self._indexes = {path.stem: faiss.read_index(str(path)) for path in folder.glob("*.index")}

    def insert(self, partition: str, rows: Rows) -> None:
        if partition not in self._indexes:
            self._indexes[partition] = self._faiss.IndexIDMap(self._faiss.IndexFlatIP(DIM))
        self._indexes[partition].add_with_ids(rows.vectors, rows.ids)
        new = self._folder / "new"
        self._faiss.write_index(self._indexes[partition], str(new))
        flush_to_disk(new)
        new.replace(self._folder / f"{partition}.index")
        flush_to_disk(self._folder)

    def search(self, partition: str, query: np.ndarray, top_k: int, customer: Customer | None) -> list[int]:
        settings = None
        if customer:
            settings = self._faiss.SearchParameters(sel=self._faiss.IDSelectorBatch(customer.ids))
        found = self._indexes[partition].search(query[None], top_k, params=settings)[1][0]
        return found[found >= 0].tolist()

    def count(self) -> int:
        return sum(index.ntotal for index in self._indexes.values())


class Chroma(Store):
    package, title, partition = "chromadb", "Chroma", "collection"

    def __init__(self, folder: Path) -> None:
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
            ids, vectors, texts, customers = (column[start : start + max_batch] for column in rows)
            self._collection(partition).add(
                ids=[str(id_) for id_ in ids],
                embeddings=vectors,
                documents=texts,
                metadatas=[{"customer": customer} for customer in customers],
            )

    def search(self, partition: str, query: np.ndarray, top_k: int, customer: Customer | None) -> list[int]:
        where = {"customer": customer.name} if customer else None
        found = self._collection(partition).query(query_embeddings=[query], n_results=top_k, where=where)
        return [int(id_) for id_ in found["ids"][0]]

    def count(self) -> int:
        return sum(collection.count() for collection in self._client.list_collections())


class Lance(Store):
    """LanceDB without a vector index, as recommended up to 100,000 rows; customers are an indexed column."""

    package, title, partition, divides = "lancedb", "LanceDB", "table", False

    def __init__(self, folder: Path) -> None:
        import lancedb
        import pyarrow

        self._arrow, self._db = pyarrow, lancedb.connect(str(folder))
        vector = pyarrow.list_(pyarrow.float32(), DIM)
        types = {"id": pyarrow.int64(), "vector": vector, "text": pyarrow.string(), "customer": pyarrow.string()}
        self._schema = pyarrow.schema(types.items())
        self._tables = {path.stem: self._db.open_table(path.stem) for path in folder.glob("*.lance")}

    def insert(self, partition: str, rows: Rows) -> None:
        columns = zip(self._schema.names, [rows.ids, list(rows.vectors), rows.texts, rows.customers], strict=True)
        table = self._arrow.table(dict(columns), schema=self._schema)
        if partition in self._tables:
            self._tables[partition].add(table)
        else:
            self._tables[partition] = self._db.create_table(partition, table)
            self._tables[partition].create_scalar_index("customer", index_type="BITMAP")

    def search(self, partition: str, query: np.ndarray, top_k: int, customer: Customer | None) -> list[int]:
        search = self._tables[partition].search(query, vector_column_name="vector").distance_type("dot").limit(top_k)
        if customer:
            search = search.where(f"customer = '{customer.name}'", prefilter=True)
        return [row["id"] for row in search.select(["id", "text", "_distance"]).to_list()]

    def count(self) -> int:
        return sum(table.count_rows() for table in self._tables.values())


STORES: dict[str, type[Store]] = {"ours": Ours, "faiss": Faiss, "chroma": Chroma, "lance": Lance}
