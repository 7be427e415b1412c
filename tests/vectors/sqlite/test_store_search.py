"""Searches of large namespaces: they do not block other calls, and their results are consistent.

The thresholds for a large namespace are set to a few rows. The tests control the order of events and do not depend on
time.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from bankllm.vectors.rows import Match
from bankllm.vectors.sqlite import queries
from bankllm.vectors.sqlite import store as store_module
from bankllm.vectors.sqlite.matrix_cache import Snapshot
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import DIM, EMBEDDER, expected_texts, row, texts, vector_of

MODEL = {f"m{seed}": seed for seed in range(1, 31)}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SMALL_ROWS", 5)
    monkeypatch.setattr(queries, "CHUNK_ROWS", 4)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(tmp_path / "memory.sqlite", DIM, EMBEDDER)) as opened:
        opened.upsert("LARGE", [row(id_, seed) for id_, seed in MODEL.items()])
        opened.upsert("SMALL", [row("a", 1)])
        yield opened


def during_products(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> list[int]:
    """Call `act` with its number before each matrix product of a large namespace; return the list of numbers."""
    products: list[int] = []
    true = Snapshot.nearest

    def nearest(self: Snapshot, query: np.ndarray, top_k: int) -> tuple[list[int], list[float]]:
        if len(self) > 5:
            products.append(len(products))
            act(products[-1])
        return true(self, query, top_k)

    monkeypatch.setattr(Snapshot, "nearest", nearest)
    return products


def test_other_calls_run_while_a_large_namespace_is_multiplied(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiplying, proceed = Event(), Event()

    def wait(number: int) -> None:
        multiplying.set()
        assert proceed.wait(10)

    during_products(monkeypatch, wait)
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(texts, store, "LARGE")
        assert multiplying.wait(10)
        small = pool.submit(texts, store, "SMALL")
        assert small.result(10) == ["text 1"]
        pool.submit(store.upsert, "SMALL", [row("b", 2)]).result(10)
        pool.submit(store.upsert, "LARGE", [row("late", 99)]).result(10)
        assert not large.done()
        proceed.set()
        assert large.result(10) == expected_texts(MODEL)
    assert texts(store, "LARGE") == expected_texts(MODEL | {"late": 99})


@pytest.mark.parametrize("change", ["delete", "replace", "forget"])
def test_a_search_restarts_if_rows_change_during_it(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    model = dict(MODEL)
    with closing(SQLiteStore(store.path, DIM, EMBEDDER)) as other:

        def act(number: int) -> None:
            if number == 0 and change == "delete":
                other.delete("LARGE", ["m7"])
                del model["m7"]
            elif number == 0 and change == "replace":
                store.upsert("LARGE", [row("m7", 77)])
                model["m7"] = 77
            elif number == 0:
                other.delete("LARGE")
                other.upsert("LARGE", [row(id_, seed + 100) for id_, seed in MODEL.items()])
                model.update({id_: seed + 100 for id_, seed in MODEL.items()})

        products = during_products(monkeypatch, act)
        assert texts(store, "LARGE") == expected_texts(model)
        assert len(products) == 2


def test_the_last_attempt_of_a_search_holds_the_lock(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    model = dict(MODEL)

    def disturb(number: int) -> None:
        if number < store_module.MAX_RETRIES:
            store.upsert("LARGE", [row("m7", 200 + number)])
            model["m7"] = 200 + number
        else:
            assert store._lock._held  # no other thread can write

    products = during_products(monkeypatch, disturb)
    assert texts(store, "LARGE") == expected_texts(model)
    assert len(products) == store_module.MAX_RETRIES + 1


def test_rows_deleted_while_a_large_namespace_is_read_are_not_found(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, reads = dict(MODEL), 0
    true = store_module.extend_block

    def extend_block(*arguments: object, **options: object) -> object:
        nonlocal reads
        reads += 1
        return true(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module, "extend_block", extend_block)
    deleted_after: list[int] = []

    def between_reads(*arguments: object) -> None:
        if reads == 3 and not deleted_after:
            deleted_after.append(reads)
            store.delete("LARGE", ["m2", "m9"])

    true_release = store._lock.release

    def release() -> None:
        true_release()
        between_reads()

    monkeypatch.setattr(store._lock, "release", release)
    del model["m2"], model["m9"]
    assert texts(store, "LARGE") == expected_texts(model)
    assert deleted_after == [3]
    assert reads >= 3 + 28 // 4


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_threads_that_search_large_namespaces_get_consistent_results(tmp_path: Path, cache_bytes: int) -> None:
    with closing(SQLiteStore(tmp_path / "memory.sqlite", DIM, EMBEDDER, cache_bytes=cache_bytes)) as store:
        for name in ("ONE", "TWO"):
            store.upsert(name, [row(id_, seed) for id_, seed in MODEL.items()])

        def work(number: int) -> None:
            for step in range(20):
                if number == 0:
                    store.upsert("ONE", [row(f"late{step}", 1000 + step)])
                found = store.search(("ONE", "TWO")[(number + step) % 2], vector_of(step), 1000)
                kept = {match.id: int(match.text.split()[1]) for match in found}
                assert kept.items() >= MODEL.items()
                assert [match.text for match in found] == expected_texts(kept, step)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
        assert len(store.search("ONE", vector_of(0), 1000)) == 50


@pytest.mark.parametrize("top_k", [1, 10, 29, 30, 31, 5000])
def test_every_top_k_returns_the_nearest_rows_in_order(store: SQLiteStore, top_k: int) -> None:
    found: list[Match] = store.search("LARGE", vector_of(0), top_k)
    assert [match.text for match in found] == expected_texts(MODEL)[:top_k]
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
