"""The embedding cache in the store's file: sharing between processes, commits, deletion, size limit and faults."""

import logging
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import StoreError
from bankllm.settings import Settings
from bankllm.vectors import embedding_cache
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.embedding_cache import ENTRY_OVERHEAD, FLUSH_ENTRIES
from bankllm.vectors.rows import Row
from bankllm.vectors.service import VectorService, open_service
from bankllm.vectors.sqlite.store import SQLiteStore
from bankllm.vectors.storage_precision import FLOAT32
from tests.support.fake_embedder import DIM, fake_embedder, vectors

MODEL = fake_embedder().model_id
SECRET = "my secret illness costs money"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with closing(open_store(path)) as opened:
        yield opened


def open_store(path: Path) -> SQLiteStore:
    return SQLiteStore(path, DIM, MODEL)


def cached(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT count(*) FROM embeddings").fetchone()[0]


def counts(embedder: Embedder) -> tuple[int, int, int]:
    return embedder.counts.memory, embedder.counts.shared, embedder.counts.missed


def row(text: str = "stored") -> Row:
    return Row(text, text, vectors([text])[0])


def raw(path: Path) -> bytes:
    """Return the bytes of the file and of its journal files."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(path.name + "*")))


OTHER_PROCESS = """
import sys
from pathlib import Path
from tests.support.fake_embedder import DIM, fake_embedder
from bankllm.vectors.sqlite.store import SQLiteStore
store = SQLiteStore(Path(sys.argv[1]), DIM, fake_embedder().model_id)
embedder = fake_embedder(store.embeddings)
embedder.encode(sys.argv[2:])
store.close()
print(embedder.counts.memory, embedder.counts.shared, embedder.counts.missed)
"""


def test_another_process_finds_cached_vectors(path: Path) -> None:
    def embed(*texts: str) -> str:
        command = [sys.executable, "-c", OTHER_PROCESS, str(path), *texts]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
        ).stdout.strip()

    assert embed("where is my card", "hello") == "0 0 2"
    assert embed("Where  is my CARD", "hello", "hello", "new") == "1 2 1"


def test_a_shared_vector_is_bit_identical(path: Path) -> None:
    with closing(open_store(path)) as store:
        first = fake_embedder(store.embeddings).encode(["card", "hello"])
    with closing(open_store(path)) as store:
        again = fake_embedder(store.embeddings)
        np.testing.assert_array_equal(again.encode(["card", "hello"]), first)
        assert counts(again) == (0, 2, 0)


def test_query_vectors_are_written_with_the_next_commit_of_rows(path: Path, store: SQLiteStore) -> None:
    written: list[str] = []
    store._db.set_trace_callback(lambda sql: written.append(sql) if sql.startswith("BEGIN IMMEDIATE") else None)
    embedder = fake_embedder(store.embeddings)
    for number in range(50):
        embedder.encode([f"query {number}"])
    assert (written, cached(path)) == ([], 0)
    store.upsert("CUST001", [row()])
    assert (len(written), cached(path)) == (1, 50)


def test_a_full_buffer_is_committed_and_the_rest_at_close(path: Path) -> None:
    store = open_store(path)
    embedder = fake_embedder(store.embeddings)
    for number in range(FLUSH_ENTRIES + 3):
        embedder.encode([f"query {number}"])
    assert cached(path) == FLUSH_ENTRIES
    store.close()
    store.close()
    assert cached(path) == FLUSH_ENTRIES + 3


def test_stored_messages_are_not_added_to_the_shared_cache(path: Path) -> None:
    with open_service(path, embedder=fake_embedder()) as service:
        service.for_user("CUST001").store("hello", "Hello!", "greeting")
        service.collection("intents").add(["my card is gone"])
        service.semantic_search("where is it", user_id="CUST001")
    assert cached(path) == 1


def test_the_least_recently_used_vectors_are_evicted_from_the_file(path: Path) -> None:
    entry = DIM * FLOAT32.itemsize + ENTRY_OVERHEAD
    with closing(open_store(path)) as store:
        store.embeddings.max_bytes = 3 * entry
        embedder = fake_embedder(store.embeddings)
        for text in ("one", "two", "three", "one", "four", "five"):
            time.sleep(0.002)  # usage times have a resolution of 1 ms
            embedder.encode([text])
            store.embeddings.flush()
    with closing(open_store(path)) as store:
        fresh = fake_embedder(store.embeddings)
        fresh.encode(["one", "four", "five"])
        assert counts(fresh) == (0, 3, 0)
        fresh.encode(["two", "three"])
        assert counts(fresh) == (0, 3, 2)


def test_the_cache_in_the_file_stays_within_its_size_limit(path: Path) -> None:
    wide = 384
    rows = np.random.default_rng(0).normal(size=(3000, wide)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with closing(SQLiteStore(path, wide, MODEL)) as store:
        empty = path.stat().st_size
        store.embeddings.max_bytes = 2**20
        _, epoch = store.embeddings.get([b"nothing yet"])
        for number, vector in enumerate(rows):
            store.embeddings.put({number.to_bytes(32, "big"): vector}, epoch)
    assert path.stat().st_size - empty <= 2**20
    assert cached(path) == 2**20 // (4 * wide + ENTRY_OVERHEAD)


def test_the_cache_contains_no_plain_text(path: Path) -> None:
    with open_service(path, embedder=fake_embedder()) as service:
        service.semantic_search(SECRET, user_id="CUST001")
    assert cached(path) == 1
    assert all(word.encode() not in raw(path) for word in SECRET.split())


@pytest.mark.parametrize("whole", [True, False])
def test_forget_leaves_neither_text_nor_vector_in_the_file(path: Path, whole: bool) -> None:
    vector = vectors([SECRET])[0].astype(FLOAT32).tobytes()
    with open_service(path, embedder=fake_embedder()) as service:
        memory, other = service.for_user("CUST001"), service.for_user("CUST002")
        memory.search(SECRET.upper())
        message = memory.store(SECRET, "I see.", "greeting")
        memory.store("good bye", "Bye!", "goodbye")
        other.store("hello", "Hello!", "greeting")
        assert cached(path) == 1
        assert raw(path).count(vector) >= 2
        memory.forget(None if whole else [message])
        assert cached(path) == 0
        assert service.embedder.memory.get(service.embedder._keys([SECRET])) == {}
        assert len(memory.export()) == (0 if whole else 1)
        assert len(other.export()) == 1
    assert vector not in raw(path)
    assert SECRET.encode() not in raw(path)


def test_forget_discards_buffered_vectors_of_another_process(path: Path) -> None:
    with closing(open_store(path)) as store, closing(open_store(path)) as second_store:
        one = VectorService(store, fake_embedder(store.embeddings))
        two = VectorService(second_store, fake_embedder(second_store.embeddings))
        one.for_user("CUST001").store(SECRET, "I see.", "greeting")
        two.semantic_search(SECRET, user_id="CUST001")  # buffered in memory, not yet written
        two.semantic_search("hello", user_id="CUST001")
        one.forget_user("CUST001")
        two.for_user("CUST002").store("good morning", "Hello!", "greeting")
        assert cached(path) == 0, "vectors that were buffered before the delete are discarded"
        two.semantic_search("good evening", user_id="CUST002")
        assert two.embedder.memory.get(two.embedder._keys([SECRET])) == {}
        two.semantic_search(SECRET, user_id="CUST002")  # another customer sends the same text later
        two.for_user("CUST002").store("good night", "Bye!", "goodbye")
        assert cached(path) == 2


def test_a_text_that_is_forgotten_while_it_is_embedded_is_not_cached(path: Path, store: SQLiteStore) -> None:
    embedder, other = fake_embedder(store.embeddings), fake_embedder(store.embeddings)

    def encode(texts: list[str]) -> np.ndarray:
        other.forget([SECRET])
        other.encode(["another thread reads the cache meanwhile"])
        return vectors(texts)

    embedder._encode = encode
    embedder.encode([SECRET])
    store.embeddings.flush()
    assert cached(path) == 1
    assert store.embeddings.get(embedder._keys([SECRET]))[0] == {}


def test_clear_cache_empties_the_file_and_resets_the_counts(path: Path, store: SQLiteStore) -> None:
    embedder = fake_embedder(store.embeddings)
    embedder.encode(["one"])
    store.embeddings.flush()
    embedder.encode(["two"])
    embedder.clear_cache()
    store.embeddings.flush()
    assert (cached(path), counts(embedder), embedder.memory.nbytes) == (0, (0, 0, 0), 0)
    embedder.encode(["one", "two"])
    assert counts(embedder) == (0, 0, 2)


def test_a_cache_size_setting_of_zero_disables_the_shared_cache(path: Path) -> None:
    with open_service(path, Settings(embedding_cache_bytes=0), embedder=fake_embedder()) as service:
        service.semantic_search("hello", user_id="CUST001")
        service.semantic_search("hello", user_id="CUST001")
        stats = service.stats()
    assert cached(path) == 0
    assert (stats.cache_hits_memory, stats.cache_hits_shared, stats.cache_misses) == (1, 0, 1)


def test_hit_rates_are_reported_per_layer(path: Path) -> None:
    with open_service(path, embedder=fake_embedder()) as service:
        service.semantic_search("hello", user_id="CUST001")
    with open_service(path, embedder=fake_embedder()) as service:
        for query in ("hello", "hello", "hello", "new"):
            service.semantic_search(query, user_id="CUST001")
        stats = service.stats()
    assert (stats.cache_hits_memory, stats.cache_hits_shared, stats.cache_misses, stats.cache_hits) == (2, 1, 1, 3)
    rates = stats.cache_hit_rate, stats.cache_memory_hit_rate, stats.cache_shared_hit_rate
    assert rates == (0.75, 0.5, 0.5)


@pytest.mark.parametrize("damage", ["substr(vector, 2)", "zeroblob(length(vector))", "'text'", "x''"])
def test_a_damaged_entry_is_a_miss_and_is_replaced(path: Path, store: SQLiteStore, damage: str) -> None:
    fake_embedder(store.embeddings).encode(["hello"])
    store.embeddings.flush()
    store._db.execute(f"UPDATE embeddings SET vector = {damage}")
    for expected in ((0, 0, 1), (0, 1, 0)):
        embedder = fake_embedder(store.embeddings)
        np.testing.assert_array_equal(embedder.encode(["hello"]), vectors(["hello"]))
        assert counts(embedder) == expected
        store.embeddings.flush()


def test_a_missing_table_fails_no_request_and_is_logged_once(
    path: Path, store: SQLiteStore, caplog: pytest.LogCaptureFixture
) -> None:
    service = VectorService(store, fake_embedder(store.embeddings))
    service.semantic_search("buffered", user_id="CUST001")
    store._db.execute("DROP TABLE embeddings")
    with caplog.at_level(logging.WARNING):
        for query in ("hello", "good bye"):
            service.for_user("CUST001").store(query, "Yes?", "greeting")
            service.semantic_search(f"{query} again", user_id="CUST001")
    assert len(caplog.records) == 1
    assert "The embedding cache in the store's file failed" in caplog.text
    assert len(service.export_user("CUST001")) == 2
    with pytest.raises(StoreError, match="no such table: embeddings"):
        service.forget_user("CUST001")
    assert service.export_user("CUST001") == [], "the rows are deleted even if the cache fails"


def test_a_locked_file_is_a_miss_and_is_not_read_again_immediately(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(open_store(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        embedder = fake_embedder(store.embeddings)
        embedder.encode(["before"])
        store.embeddings.flush()
        monkeypatch.setattr(embedding_cache, "PAUSE_S", 3600.0)
        other.execute("BEGIN EXCLUSIVE")
        reads = count_reads(store, monkeypatch)
        for number in range(20):
            embedder.encode([f"query {number}"])
        assert counts(embedder) == (0, 0, 21)
        if "wal" not in store._db.execute("PRAGMA journal_mode").fetchone():  # in WAL mode, readers do not wait
            assert len(reads) == 1
            assert "database is locked" in caplog.text
            assert len(caplog.records) == 1
        other.execute("ROLLBACK")
        store.upsert("CUST001", [row()])
        assert cached(path) == 21, "vectors computed while the file was locked are written later"
        store.embeddings._paused_until = time.monotonic()
        again = fake_embedder(store.embeddings)
        again.encode(["before", "query 7"])
        assert counts(again) == (0, 2, 0)


def count_reads(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the times at which the cache read the file; the list grows."""
    reads: list[float] = []
    reading = store.embeddings._reading

    def count() -> AbstractContextManager[sqlite3.Connection]:
        reads.append(time.monotonic())
        return reading()

    monkeypatch.setattr(store.embeddings, "_reading", count)
    return reads
