"""Re-embedding a file's texts: no row is lost, even if other processes write meanwhile or the call is killed."""

import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from bankllm.errors import StoreError
from bankllm.vectors.rows import unit_vectors
from bankllm.vectors.sqlite import maintenance
from bankllm.vectors.sqlite.maintenance import reindex
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.killed import run_until
from tests.support.store_model import CUSTOMERS, DIM, EMBEDDER, is_intact, row, texts, vector_of

NEW_DIM = 12
NEW = "new-embedder@4567"
ROWS = 100


def embed(given: list[str]) -> np.ndarray:
    return np.array([np.random.default_rng(crc32(text.encode())).normal(size=NEW_DIM) for text in given])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "BATCH_ROWS", 10)


@pytest.fixture
def filled(path: Path) -> Path:
    """A file with `ROWS` - 1 rows of two customers."""
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        for first, customer in enumerate(CUSTOMERS):
            store.upsert(customer, [row(f"m{seed}", seed) for seed in range(1 + first, ROWS, 2)])
    return path


def kept_texts(path: Path, dim: int = DIM, embedder: str = EMBEDDER) -> dict[str, list[str]]:
    with closing(SQLiteStore(path, dim, embedder)) as store:
        return {customer: [row.text for row in store.export(customer)] for customer in CUSTOMERS}


def assert_new(path: Path, expected: dict[str, list[str]]) -> None:
    """Assert that the file holds these texts with the new embedder's vectors."""
    with closing(SQLiteStore(path, NEW_DIM, NEW)) as store:
        query = embed(["what to look for"])[0]
        for customer, wanted in expected.items():
            scores = unit_vectors(list(embed(wanted)), NEW_DIM) @ (query / np.linalg.norm(query))
            found = store.search(customer, query, 1000)
            assert [match.text for match in found] == [wanted[i] for i in np.argsort(-scores)]
            np.testing.assert_allclose([match.score for match in found], -np.sort(-scores), atol=1e-6)
            assert [row.text for row in store.export(customer)] == wanted
    assert is_intact(path)


def test_all_texts_get_the_new_embedders_vectors(filled: Path) -> None:
    before = kept_texts(filled)
    assert reindex(filled, embed, NEW_DIM, NEW) == ROWS - 1
    assert_new(filled, before)
    assert reindex(filled, embed, NEW_DIM, NEW) == 0
    with pytest.raises(StoreError, match=r"holds vectors of new-embedder@4567 \(dim 12\).*bankllm memory reindex"):
        SQLiteStore(filled, DIM, EMBEDDER)


def test_calls_of_a_store_with_the_old_embedder_fail_after_reindexing(filled: Path) -> None:
    with closing(SQLiteStore(filled, DIM, EMBEDDER)) as store:
        texts(store, "CUST001")
        reindex(filled, embed, NEW_DIM, NEW)
        calls: list[Callable[[], object]] = [
            lambda: store.search("CUST001", vector_of(0), 3),
            lambda: store.upsert("CUST001", [row("late", 1)]),
            lambda: store.export("CUST001"),
        ]
        for call in calls:
            with pytest.raises(StoreError, match=r"holds vectors of new-embedder@4567.*but this embedder is test"):
                call()


def test_rows_written_replaced_and_deleted_during_reindexing_are_included(filled: Path) -> None:
    with closing(SQLiteStore(filled, DIM, EMBEDDER)) as store:
        calls = 0

        def embed_while_others_write(given: list[str]) -> np.ndarray:
            nonlocal calls
            calls += 1
            if calls <= 15:
                store.upsert("CUST001", [row(f"late{calls}", 1000 + calls)])  # new
                store.upsert("CUST001", [row("m1", 2000 + calls)])  # before and after it was embedded
                store.upsert("CUST002", [row(f"m{2 * calls}", 3000 + calls)])
                store.delete("CUST002", [f"m{100 - 2 * calls}"])
                number = int(given[0].removeprefix("text "))
                if calls == 3:  # a row that is being embedded
                    store.upsert(CUSTOMERS[(number + 1) % 2], [row(f"m{number}", 4000)])
                if calls == 4:
                    store.delete(CUSTOMERS[(number + 1) % 2], [f"m{number}"])
            return embed(given)

        reindex(filled, embed_while_others_write, NEW_DIM, NEW)
    with closing(SQLiteStore(filled, NEW_DIM, NEW)) as store:
        expected = {customer: [row.text for row in store.export(customer)] for customer in CUSTOMERS}
    assert calls > 15
    assert {"text 1015", "text 2015", "text 4000"} <= set(expected["CUST001"]) | set(expected["CUST002"])
    assert_new(filled, expected)


REINDEX = """
from bankllm.vectors.sqlite.maintenance import reindex
from tests.vectors.sqlite.test_reindex import NEW, NEW_DIM, embed
reindex(path, embed, NEW_DIM, NEW)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "times"), [("UPDATE rows", 1), ("UPDATE rows", 50), ("UPDATE meta", 2)])
def test_a_killed_reindexing_changes_nothing(filled: Path, moment: str, times: int) -> None:
    before = kept_texts(filled)
    killed = run_until(filled, REINDEX, moment, times)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert kept_texts(filled) == before  # with the old embedder
    assert reindex(filled, embed, NEW_DIM, NEW) == ROWS - 1
    assert_new(filled, before)
