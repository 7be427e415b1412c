"""Searches of large namespaces: they do not block other calls, and their results are consistent.

The limit of one read is set to a few rows. The tests control the order of events and do not
depend on time.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from bankllm.vectors.sqlite import matrices
from bankllm.vectors.sqlite.matrix import Matrix
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import DIM, EMBEDDER, expected_texts, row, texts

MODEL = {f"m{seed}": seed for seed in range(1, 31)}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "LOAD_ROWS", 4)


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as opened:
        opened.upsert("LARGE", [row(id_, seed) for id_, seed in MODEL.items()])
        opened.upsert("SMALL", [row("a", 1)])
        yield opened


def before_each(monkeypatch: pytest.MonkeyPatch, method: str, act: Callable[[int], None]) -> list[int]:
    """Call `act` with its number before each call of a method of a large matrix; return the list of numbers."""
    calls: list[int] = []
    true = getattr(Matrix, method)

    def called(self: Matrix, *arguments: object) -> object:
        if self.rows > 5:
            calls.append(len(calls))
            act(calls[-1])
        return true(self, *arguments)

    monkeypatch.setattr(Matrix, method, called)
    return calls


def test_other_calls_run_while_a_large_namespace_is_multiplied(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiplying, proceed = Event(), Event()

    def wait(number: int) -> None:
        multiplying.set()
        assert proceed.wait(10)

    before_each(monkeypatch, "search", wait)
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
def test_a_search_is_repeated_if_rows_change_during_it(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    model = dict(MODEL)
    with closing(SQLiteStore(store.path, DIM, EMBEDDER)) as other:

        def act(number: int) -> None:
            if number:
                return
            if change == "delete":
                other.delete("LARGE", ["m7"])
                del model["m7"]
            elif change == "replace":
                store.upsert("LARGE", [row("m7", 77)])
                model["m7"] = 77
            else:
                other.delete("LARGE")
                other.upsert("LARGE", [row(id_, seed + 100) for id_, seed in MODEL.items()])
                model.update({id_: seed + 100 for id_, seed in MODEL.items()})

        products = before_each(monkeypatch, "search", act)
        assert texts(store, "LARGE") == expected_texts(model)
        assert len(products) == 2
