"""The contract of a store, tested on `SQLiteStore` and `ReplicatedStore`, followed by tests of `SQLiteStore` only.

The replicated stores use the real Pinecone SDK against a local server. With `PINECONE_API_KEY`, the hosted service is
tested too.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from pinecone import Pinecone

from bankllm.errors import UsageError
from bankllm.vectors.pinecone.index import PineconeIndex
from bankllm.vectors.pinecone.replicated import ReplicatedStore
from bankllm.vectors.rows import Query, Row, unit_vectors
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import DIM, EMBEDDER, drain, open_replicated, row, texts

HOSTED = {name: os.environ.get(name) for name in ("PINECONE_API_KEY", "PINECONE_CONTROLLER_HOST")}
"""Read at import, because the tests run without the environment variables of the user."""


@pytest.fixture(scope="module")
def hosted() -> Iterator[Callable[[], PineconeIndex]]:
    """Return a function that opens an index of the hosted service; the index is deleted after the tests."""
    key, host, name = HOSTED["PINECONE_API_KEY"], HOSTED["PINECONE_CONTROLLER_HOST"], f"bankllm-test-{uuid4().hex[:8]}"
    if key is None:
        pytest.skip("PINECONE_API_KEY is not set: the hosted service is not tested")
    yield lambda: PineconeIndex(key, name, DIM, EMBEDDER, host=host)
    with closing(Pinecone(api_key=key, host=host)) as client:
        client.indexes.delete(name)


@pytest.fixture(params=["sqlite", "pinecone", pytest.param("hosted", marks=pytest.mark.network)])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[SQLiteStore]:
    """A `SQLiteStore`, or a `ReplicatedStore` on a local server or on the hosted service."""
    if request.param == "sqlite":
        with closing(SQLiteStore(path, DIM, EMBEDDER)) as opened:
            yield opened
        return
    if request.param != "hosted":
        with closing(open_replicated(request.getfixturevalue("server"), path)) as replicated:
            yield replicated
        return
    connect = request.getfixturevalue("hosted")
    with closing(ReplicatedStore(path, DIM, EMBEDDER, connect, target="hosted", search_s=10)) as replicated:
        yield replicated
        for namespace in {entry.namespace for entry, _ in replicated.next_entries()} | set(NAMESPACES):
            replicated.delete(namespace)  # the next test uses the same index
        drain(replicated)


NAMESPACES = ("CUST001", "CUST002", "CUST003")


def rows_of(vectors: np.ndarray, prefix: str = "m") -> list[Row]:
    return [Row(f"{prefix}{i}", f"text {i}", vector, {"intent": "card"}) for i, vector in enumerate(vectors)]


def random_vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)


def test_search_is_exact_and_best_first(store: SQLiteStore) -> None:
    vectors, query = random_vectors(60), random_vectors(1, seed=1)[0]
    store.upsert("CUST001", rows_of(vectors))
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    expected = np.argsort(-cosines)[:5]

    found = store.search("CUST001", query, 5)

    assert [match.id for match in found] == [f"m{i}" for i in expected]
    np.testing.assert_allclose([match.score for match in found], cosines[expected], atol=1e-6)


def test_search_many_equals_separate_searches(store: SQLiteStore) -> None:
    vectors, queries = random_vectors(40), random_vectors(3, seed=1)
    names = ["CUST001", "CUST002", "CUST003"]
    store.upsert_many([("CUST001", rows_of(vectors[:25], "a")), ("CUST002", rows_of(vectors[25:], "b"))])
    found = store.search_many([Query(*pair) for pair in zip(names, queries, strict=True)], 4)
    assert found == [store.search(name, query, 4) for name, query in zip(names, queries, strict=True)]
    assert [{match.id[0] for match in matches} for matches in found] == [{"a"}, {"b"}, set()]
    assert store.search_many([], 4) == []
    store.upsert_many([])
    assert len(store.export("CUST001")) == 25


def test_a_match_contains_text_metadata_and_time(store: SQLiteStore) -> None:
    metadata = {"intent": "card", "confidence": 0.5, "turns": 3, "open": True, "tags": ["a", "b"]}
    row = Row("a", "Où est ma carte? 💳", random_vectors(1)[0], metadata, "2026-01-02T03:04:05+00:00")
    store.upsert("CUST001", [row])
    match = store.search("CUST001", row.vector, 1)[0]
    assert (match.text, match.metadata, match.created_at) == (row.text, metadata, row.created_at)
    assert match.score == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("other", ["CUST002", "cust001", "CUST001/x", "CUST001 ", "é", "CUST001%20"])
def test_a_namespace_finds_and_deletes_only_its_own_rows(store: SQLiteStore, other: str) -> None:
    vector = random_vectors(1)[0]
    store.upsert("CUST001", [Row("same-id", "mine", vector)])
    store.upsert(other, [Row("same-id", "theirs", vector)])

    assert [match.text for match in store.search("CUST001", vector, 10)] == ["mine"]
    assert [match.text for match in store.search(other, vector, 10)] == ["theirs"]
    store.delete(other)
    assert [row.text for row in store.export("CUST001")] == ["mine"]
    assert store.search(other, vector, 10) == []
    assert (store.count("CUST001"), store.count(other), store.count()) == (1, 0, 1)


def test_export_returns_every_row_oldest_first(store: SQLiteStore) -> None:
    vectors = random_vectors(120)
    rows = [Row(f"r{119 - i:03}", str(i), vector, created_at=f"2026-01-01T{i:06}") for i, vector in enumerate(vectors)]
    store.upsert("CUST001", rows)
    exported = store.export("CUST001")
    assert [row.text for row in exported] == [str(i) for i in range(120)]
    np.testing.assert_allclose(exported[7].vector, unit_vectors([vectors[7]], DIM)[0], atol=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.upsert("", rows_of(random_vectors(1))), "all customers would share"),
        (lambda s: s.search("__default__", np.ones(DIM), 1), "all customers would share"),
        (lambda s: s.delete(""), "all customers would share"),
        (lambda s: s.export("__default__"), "all customers would share"),
        (lambda s: s.upsert("CUST001", rows_of(np.ones((1, DIM + 1)))), r"shape \(8,\), got \(9,\)"),
        (lambda s: s.search("CUST001", np.full(DIM, np.nan), 1), "finite numbers"),
        (lambda s: s.search("CUST001", np.zeros(DIM), 1), "not all zero"),
        (lambda s: s.search("CUST001", np.ones(DIM), 0), "expected an integer ≥ 1"),
        (lambda s: s.search("CUST001", np.ones(DIM), True), "expected an integer ≥ 1"),
    ],
)
def test_invalid_calls_are_rejected_and_write_nothing(
    store: SQLiteStore, call: Callable[[SQLiteStore], object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        call(store)
    assert store.count() == 0


# SQLite only


@pytest.mark.parametrize("limit", [0, 1, 20_000])
def test_matrices_stay_within_the_memory_limit_and_do_not_change_results(path: Path, limit: int) -> None:
    vectors = random_vectors(100)
    with closing(SQLiteStore(path, DIM, EMBEDDER, cache_bytes=limit)) as store:
        for customer in range(20):
            store.upsert(f"CUST{customer}", rows_of(vectors, prefix=f"{customer}-"))
        for customer in (0, 1, 2, 3, 4, 0, 4, *range(20), 404):
            found = store.search(f"CUST{customer}", vectors[3], 1)
            assert [match.id for match in found] == ([f"{customer}-3"] if customer < 404 else [])
            assert store.cached_bytes <= max(1, limit)


def test_a_deleted_namespace_is_removed_from_memory_at_once(path: Path, journal: str) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [row("a", 1)])
        assert texts(store, "CUST001") == ["text 1"]
        assert store.cached_bytes > 0
        store.delete("CUST001")
        assert store.cached_bytes == 0


def test_upsert_many_stores_all_namespaces_or_none(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        good, bad = rows_of(random_vectors(2)), [Row("bad", "text", np.full(DIM, np.nan, np.float32))]
        with pytest.raises(UsageError, match="NaN"):
            store.upsert_many([("CUST001", good), ("CUST002", bad)])
        with pytest.raises(UsageError, match="default"):
            store.upsert_many([("CUST001", good), ("__default__", good)])
        assert store.count() == 0
