"""Searches of large namespaces: they let others go on, and still find what one moment's rows give.

What is large is set to a handful of rows; order of events decides, never time.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from store_model import DIM, EMBEDDER, expected_texts, row, texts, vector_of

from bankllm.vectors.rows import Match
from bankllm.vectors.sqlite import queries
from bankllm.vectors.sqlite import store as store_module
from bankllm.vectors.sqlite.matrix_cache import Snapshot
from bankllm.vectors.sqlite.store import SQLiteStore

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
    """Call `act` with the number of each product of a large namespace, just before it is made."""
    made: list[int] = []
    true = Snapshot.nearest

    def nearest(self: Snapshot, query: np.ndarray, top_k: int) -> tuple[list[int], list[float]]:
        if len(self) > 5:
            made.append(len(made))
            act(made[-1])
        return true(self, query, top_k)

    monkeypatch.setattr(Snapshot, "nearest", nearest)
    return made


def test_others_search_and_write_while_a_large_namespace_is_multiplied(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiplying, go_on = Event(), Event()

    def wait(number: int) -> None:
        multiplying.set()
        assert go_on.wait(10)

    during_products(monkeypatch, wait)
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(texts, store, "LARGE")
        assert multiplying.wait(10)
        small = pool.submit(texts, store, "SMALL")
        assert small.result(10) == ["text 1"]
        pool.submit(store.upsert, "SMALL", [row("b", 2)]).result(10)
        pool.submit(store.upsert, "LARGE", [row("late", 99)]).result(10)
        assert not large.done()
        go_on.set()
        assert large.result(10) == expected_texts(MODEL)
    assert texts(store, "LARGE") == expected_texts(MODEL | {"late": 99})


@pytest.mark.parametrize("change", ["delete", "replace", "forget"])
def test_rows_that_change_under_a_search_make_it_begin_anew(
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

        made = during_products(monkeypatch, act)
        assert texts(store, "LARGE") == expected_texts(model)
        assert len(made) == 2


def test_a_search_that_is_disturbed_again_and_again_ends_alone(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dict(MODEL)

    def disturb(number: int) -> None:
        if number < store_module.MAX_RETRIES:
            store.upsert("LARGE", [row("m7", 200 + number)])
            model["m7"] = 200 + number
        else:
            assert store._lock._held  # nobody can

    made = during_products(monkeypatch, disturb)
    assert texts(store, "LARGE") == expected_texts(model)
    assert len(made) == store_module.MAX_RETRIES + 1


def test_rows_removed_while_a_large_namespace_is_read_are_not_found(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, turns = dict(MODEL), 0
    true = store_module.read_on

    def read_on(*arguments: object, **options: object) -> object:
        nonlocal turns
        turns += 1
        return true(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module, "read_on", read_on)
    seen: list[int] = []

    def between_turns(*arguments: object) -> None:
        if turns == 3 and not seen:
            seen.append(turns)
            store.delete("LARGE", ["m2", "m9"])

    true_release = store._lock.release

    def release() -> None:
        true_release()
        between_turns()

    monkeypatch.setattr(store._lock, "release", release)
    del model["m2"], model["m9"]
    assert texts(store, "LARGE") == expected_texts(model)
    assert seen == [3]
    assert turns >= 3 + 28 // 4


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_threads_that_read_and_search_one_large_namespace_agree(tmp_path: Path, cache_bytes: int) -> None:
    with closing(SQLiteStore(tmp_path / "memory.sqlite", DIM, EMBEDDER, cache_bytes=cache_bytes)) as store:
        for name in ("ONE", "TWO"):
            store.upsert(name, [row(id_, seed) for id_, seed in MODEL.items()])

        def live(number: int) -> None:
            for step in range(20):
                if number == 0:
                    store.upsert("ONE", [row(f"late{step}", 1000 + step)])
                found = store.search(("ONE", "TWO")[(number + step) % 2], vector_of(step), 1000)
                kept = {match.id: int(match.text.split()[1]) for match in found}
                assert kept.items() >= MODEL.items()
                assert [match.text for match in found] == expected_texts(kept, step)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(live, range(6)))
        assert len(store.search("ONE", vector_of(0), 1000)) == 50


@pytest.mark.parametrize("top_k", [1, 10, 29, 30, 31, 5000])
def test_any_top_k_finds_the_best_in_order(store: SQLiteStore, top_k: int) -> None:
    found: list[Match] = store.search("LARGE", vector_of(0), top_k)
    assert [match.text for match in found] == expected_texts(MODEL)[:top_k]
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
