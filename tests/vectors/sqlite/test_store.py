"""The contract of `VectorStore`, tested on all stores, followed by tests of `SQLiteStore` only.

Stores: SQLite, the real Pinecone SDK against a local server in both layouts, and the replicated store in both layouts.
With `PINECONE_API_KEY`, the hosted service is tested too. The SQLite tests cover several connections, the cache, full
disks and killed processes.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from pinecone import Pinecone

from bankllm.errors import StoreError, UsageError
from bankllm.vectors.pinecone.outbox import OutboxStore
from bankllm.vectors.pinecone.replicated import ReplicatedStore
from bankllm.vectors.pinecone.store import PineconeStore
from bankllm.vectors.rows import Row, unit_vector
from bankllm.vectors.sqlite.store import SQLiteStore
from bankllm.vectors.store import VectorStore
from tests.support.pinecone_server import API_KEY, PineconeServer

DIM = 8
EMBEDDER = "test-embedder@0123"


HOSTED = {name: os.environ.get(name) for name in ("PINECONE_API_KEY", "PINECONE_CONTROLLER_HOST")}
"""Read at import, because the tests run without the environment variables of the user."""
LOCAL = ["sqlite", "pinecone", "pinecone shared", "replicated", "replicated shared"]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use small slices, so that the few rows of these tests are deleted and exported in several slices."""
    monkeypatch.setattr("bankllm.vectors.sqlite.store.SLICE_ROWS", 2)


class WaitingStore(ReplicatedStore):
    """Waits before counting, because the hosted service counts new rows only after some seconds."""

    def count(self, namespace: str | None = None) -> int:
        self.drain(60)
        if HOSTED["PINECONE_CONTROLLER_HOST"] is None:
            time.sleep(10)
        return super().count(namespace)


@pytest.fixture(scope="module")
def hosted() -> Iterator[Callable[[], PineconeStore]]:
    """Return a function that opens an index of the hosted service; the index is deleted after the tests."""
    key, host, name = HOSTED["PINECONE_API_KEY"], HOSTED["PINECONE_CONTROLLER_HOST"], f"bankllm-test-{uuid4().hex[:8]}"
    if key is None:
        pytest.skip("PINECONE_API_KEY is not set: the hosted service is not tested")
    yield lambda: PineconeStore(key, name, DIM, EMBEDDER, host=host)
    with closing(Pinecone(api_key=key, host=host)) as client:
        client.indexes.delete(name)


@pytest.fixture(params=[*LOCAL, pytest.param("hosted", marks=pytest.mark.network)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    kind, _, layout = request.param.partition(" ")
    if kind == "hosted":
        connect_hosted = request.getfixturevalue("hosted")
        local = OutboxStore(tmp_path / "memory.sqlite", DIM, EMBEDDER, target="hosted")
        with closing(WaitingStore(local, connect_hosted, "customer", search_s=10)) as waiting:
            yield waiting
            for namespace in [namespace for (namespace,) in local._db.execute("SELECT DISTINCT namespace FROM rows")]:
                waiting.delete(namespace)
            assert waiting.count() == 0
        return
    if kind == "sqlite":
        with closing(SQLiteStore(tmp_path / "memory.sqlite", DIM, EMBEDDER)) as opened:
            yield opened
        return
    with PineconeServer() as server:
        layout = layout or "customer"

        def connect() -> PineconeStore:
            return PineconeStore(API_KEY, "test", DIM, EMBEDDER, layout=layout, host=server.url)

        if kind == "pinecone":
            with closing(connect()) as pinecone:
                yield pinecone
            return
        local = OutboxStore(tmp_path / "memory.sqlite", DIM, EMBEDDER, target="test")
        with closing(ReplicatedStore(local, connect, layout)) as replicated:
            yield replicated


def rows_of(vectors: np.ndarray, prefix: str = "m") -> list[Row]:
    return [Row(f"{prefix}{i}", f"text {i}", vector, {"intent": "card"}) for i, vector in enumerate(vectors)]


def random_vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)


def test_search_is_exact_and_best_first(store: VectorStore) -> None:
    vectors, query = random_vectors(60), random_vectors(1, seed=1)[0]
    store.upsert("CUST001", rows_of(vectors))
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    expected = np.argsort(-cosines)[:5]

    found = store.search("CUST001", query, 5)

    assert [match.id for match in found] == [f"m{i}" for i in expected]
    np.testing.assert_allclose([match.score for match in found], cosines[expected], atol=1e-6)


def test_search_many_equals_separate_searches(store: VectorStore) -> None:
    vectors, queries = random_vectors(40), random_vectors(3, seed=1)
    names = ["CUST001", "CUST002", "CUST003"]
    store.upsert_many([("CUST001", rows_of(vectors[:25], "a")), ("CUST002", rows_of(vectors[25:], "b"))])
    found = store.search_many(list(zip(names, queries, strict=True)), 4)
    assert found == [store.search(name, query, 4) for name, query in zip(names, queries, strict=True)]
    assert [{match.id[0] for match in matches} for matches in found] == [{"a"}, {"b"}, set()]
    assert store.search_many([], 4) == []
    store.upsert_many([])
    assert len(store.export("CUST001")) == 25


def test_a_match_contains_text_metadata_and_time(store: VectorStore) -> None:
    metadata = {"intent": "card", "confidence": 0.5, "turns": 3, "open": True, "tags": ["a", "b"]}
    store.upsert(
        "CUST001", [Row("a", "Où est ma carte? 💳", random_vectors(1)[0], metadata, "2026-01-02T03:04:05+00:00")]
    )
    match = store.search("CUST001", random_vectors(1)[0], 1)[0]
    assert (match.text, match.metadata, match.created_at) == (
        "Où est ma carte? 💳",
        metadata,
        "2026-01-02T03:04:05+00:00",
    )
    assert match.score == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("other", ["CUST002", "cust001", "CUST001/x", "CUST001 ", "é", "CUST001%20"])
def test_a_namespace_finds_and_deletes_only_its_own_rows(store: VectorStore, other: str) -> None:
    vector = random_vectors(1)[0]
    store.upsert("CUST001", [Row("same-id", "mine", vector)])
    store.upsert(other, [Row("same-id", "theirs", vector)])

    assert [match.text for match in store.search("CUST001", vector, 10)] == ["mine"]
    assert [match.text for match in store.search(other, vector, 10)] == ["theirs"]
    store.delete(other)
    assert [row.text for row in store.export("CUST001")] == ["mine"]
    assert store.search(other, vector, 10) == []
    assert (store.count("CUST001"), store.count(other), store.count()) == (1, 0, 1)


def test_an_upsert_with_a_known_id_replaces_the_row(store: VectorStore) -> None:
    old, new = random_vectors(2)
    store.upsert("CUST001", [Row("a", "old", old)])
    assert store.search("CUST001", old, 5)[0].text == "old"
    store.upsert("CUST001", [Row("a", "new", new)])
    found = store.search("CUST001", new, 5)
    assert [match.text for match in found] == ["new"]
    assert found[0].score == pytest.approx(1, abs=1e-6)


def test_deleted_ids_are_not_found(store: VectorStore) -> None:
    vectors = random_vectors(4)
    store.upsert("CUST001", rows_of(vectors))
    store.search("CUST001", vectors[0], 4)
    store.delete("CUST001", ["m0", "m2", "never-there"])
    assert {match.id for match in store.search("CUST001", vectors[0], 4)} == {"m1", "m3"}
    store.delete("CUST001", [])
    assert store.count("CUST001") == 2


def test_export_returns_every_row_oldest_first(store: VectorStore) -> None:
    vectors = random_vectors(120)
    rows = [Row(f"r{119 - i:03}", str(i), vector, created_at=f"2026-01-01T{i:06}") for i, vector in enumerate(vectors)]
    store.upsert("CUST001", rows)
    exported = store.export("CUST001")
    assert [row.text for row in exported] == [str(i) for i in range(120)]
    np.testing.assert_allclose(exported[7].vector, unit_vector(vectors[7], DIM), atol=1e-7)


def test_an_unknown_namespace_is_empty(store: VectorStore) -> None:
    store.delete("CUST404")
    store.delete("CUST404", ["a"])
    assert (store.search("CUST404", np.ones(DIM), 3), store.export("CUST404"), store.count("CUST404")) == ([], [], 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.upsert("", rows_of(random_vectors(1))), "all customers would share"),
        (lambda s: s.search("__default__", np.ones(DIM), 1), "all customers would share"),
        (lambda s: s.delete(""), "all customers would share"),
        (lambda s: s.export("__default__"), "all customers would share"),
        (lambda s: s.upsert("CUST001", rows_of(np.ones((1, DIM + 1)))), r"shape \(8,\), got \(9,\)"),
        (lambda s: s.search("CUST001", np.full(DIM, np.nan), 1), "finite numbers"),
        (lambda s: s.search("CUST001", np.ones(DIM), 0), "expected an integer ≥ 1"),
    ],
)
def test_invalid_calls_are_rejected_and_write_nothing(
    store: VectorStore, call: Callable[[VectorStore], object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        call(store)
    assert store.count() == 0


def test_one_invalid_row_rejects_the_whole_batch(store: VectorStore) -> None:
    rows = [*rows_of(random_vectors(3)), Row("bad", "t", np.zeros(DIM))]
    with pytest.raises(UsageError, match="not all zero"):
        store.upsert("CUST001", rows)
    assert store.count() == 0


# SQLite only


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.sqlite"


def test_rows_are_found_after_reopening(path: Path) -> None:
    vectors = random_vectors(3)
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as first:
        first.upsert("CUST001", rows_of(vectors))
        before = first.search("CUST001", vectors[1], 3)
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as second:
        assert second.search("CUST001", vectors[1], 3) == before


def test_writes_of_another_connection_are_found_at_once(path: Path) -> None:
    vectors = random_vectors(3)
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as one, closing(SQLiteStore(path, DIM, EMBEDDER)) as other:
        one.upsert("CUST001", rows_of(vectors[:2]))
        assert len(one.search("CUST001", vectors[0], 9)) == 2
        other.upsert("CUST001", [Row("late", "late", vectors[2])])
        assert one.search("CUST001", vectors[2], 1)[0].id == "late"
        other.delete("CUST001", ["m0"])
        assert {match.id for match in one.search("CUST001", vectors[0], 9)} == {"m1", "late"}


def test_the_cache_stays_within_its_limit_and_does_not_change_results(path: Path) -> None:
    vectors = random_vectors(20)
    with closing(SQLiteStore(path, DIM, EMBEDDER, cache_bytes=vectors.nbytes * 2)) as store:
        for customer in range(5):
            store.upsert(f"CUST{customer}", rows_of(vectors, prefix=f"{customer}-"))
        for customer in (0, 1, 2, 3, 4, 0, 4):
            assert store.search(f"CUST{customer}", vectors[3], 1)[0].id == f"{customer}-3"
        assert list(store._blocks.blocks) == ["CUST0", "CUST4"]
        assert store._blocks.nbytes == sum(block.nbytes for block in store._blocks.blocks.values())


def test_ties_are_oldest_first() -> None:
    with closing(SQLiteStore(None, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", rows_of(np.ones((6, DIM))))
        assert [match.id for match in store.search("CUST001", np.ones(DIM), 3)] == ["m0", "m1", "m2"]


def test_a_full_disk_is_an_error_and_earlier_rows_remain(path: Path) -> None:
    vectors = random_vectors(2000)
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", rows_of(vectors[:3]))
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(StoreError, match=r"full.*Free some disk space"):
            store.upsert("CUST001", rows_of(vectors, prefix="late"))
        assert len(store.search("CUST001", vectors[0], 10)) == 3
        store.upsert("CUST001", [Row("small", "t", vectors[5])])
        assert store.count() == 4


def test_calls_of_many_threads_fail_while_another_program_locks_the_file(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER, wait_s=0.5)) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor(8) as threads:
            other.execute("BEGIN EXCLUSIVE")
            waiting = [threads.submit(store.count) for _ in range(8)]
            errors = [call.exception() for call in waiting]
            other.execute("ROLLBACK")
        assert all(isinstance(error, StoreError) for error in errors)
        assert store.count() == 0


def test_deleted_text_is_not_in_the_file(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [Row("a", "a very private sentence", np.ones(DIM))])
        assert b"a very private sentence" in path.read_bytes()
        store.delete("CUST001")
    assert b"a very private sentence" not in path.read_bytes()


def test_calls_of_a_closed_store_raise() -> None:
    store = SQLiteStore(None, DIM, EMBEDDER)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed database"):
        store.count()


WRITER = """
import sys, numpy as np
from pathlib import Path
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore
store = SQLiteStore(Path(sys.argv[1]), 8, "test-embedder@0123")
for i in range(1_000_000):
    store.upsert("CUST001", [Row(f"{sys.argv[2]}-{i}", "t", np.ones(8))])
    print(f"{sys.argv[2]}-{i}", flush=True)
"""


def test_rows_acknowledged_by_two_killed_writers_are_stored(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    acknowledged: list[str] = []
    for writer in writers:
        assert writer.stdout is not None
        acknowledged += [writer.stdout.readline().strip() for _ in range(20)]
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.communicate()[0].splitlines()

    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        kept = {row.id for row in store.export("CUST001")}
        assert len(acknowledged) >= 40
        assert set(acknowledged) <= kept
        assert store._db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_upsert_many_stores_all_namespaces_or_none(tmp_path: Path) -> None:
    with closing(SQLiteStore(tmp_path / "memory.sqlite", DIM, EMBEDDER)) as store:
        good, bad = rows_of(random_vectors(2)), [Row("bad", "text", np.full(DIM, np.nan, np.float32))]
        with pytest.raises(UsageError, match="NaN"):
            store.upsert_many([("CUST001", good), ("CUST002", bad)])
        with pytest.raises(UsageError, match="default"):
            store.upsert_many([("CUST001", good), ("__default__", good)])
        assert store.count() == 0


def test_search_many_with_a_large_and_a_small_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bankllm.vectors.sqlite.store.SMALL_ROWS", 10)
    query = random_vectors(1, seed=1)[0]
    with closing(SQLiteStore(tmp_path / "memory.sqlite", DIM, EMBEDDER)) as store:
        store.upsert_many([("large", rows_of(random_vectors(30), "a")), ("small", rows_of(random_vectors(5), "b"))])
        large, small = store.search_many([("large", query), ("small", query)], 3)
        assert (large, small) == (store.search("large", query, 3), store.search("small", query, 3))
        assert {match.id[0] for match in large} == {"a"}
