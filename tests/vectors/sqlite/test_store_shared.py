"""One file with two stores and many threads: what each of them finds, and what the vector cache contains.

Each test runs in both journal modes, including the one that this SQLite version would not use.
"""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bankllm.errors import StoreError
from bankllm.vectors.sqlite import connection
from bankllm.vectors.sqlite import store as store_module
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import CUSTOMERS, DIM, EMBEDDER, expected_texts, row, texts, vector_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.sqlite"


@pytest.fixture(params=["truncate", "wal"])
def journal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for module in (connection, store_module):
        monkeypatch.setattr(module, "wal_is_safe", lambda version: request.param == "wal")
    return request.param


def test_both_stores_find_all_changes_of_each_other(path: Path, journal: str) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as one, closing(SQLiteStore(path, DIM, EMBEDDER)) as other:
        model: dict[str, int] = {}

        def agree() -> None:
            assert texts(one, "CUST001") == texts(other, "CUST001") == expected_texts(model)

        for seed, store in enumerate([one, other, one, one, other], 1):
            store.upsert("CUST001", [row(f"m{seed}", seed)])
            model[f"m{seed}"] = seed
            agree()
        other.upsert("CUST001", [row("m1", 11), row("m6", 6)])
        model |= {"m1": 11, "m6": 6}
        agree()
        one.delete("CUST001", ["m1"])
        del model["m1"]
        agree()
        other.delete("CUST001")
        model.clear()
        agree()
        one.upsert("CUST001", [row("m1", 12)])
        model["m1"] = 12
        agree()


def test_a_search_reads_only_new_rows(path: Path, journal: str) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as one, closing(SQLiteStore(path, DIM, EMBEDDER)) as other:
        one.upsert("CUST001", [row(f"m{seed}", seed) for seed in range(1, 51)])
        one.upsert("CUST002", [row("a", 1)])
        texts(one, "CUST001")
        texts(one, "CUST002")
        kept = dict(one._blocks.blocks)
        other.upsert("CUST001", [row("late", 60)])
        one.upsert("CUST001", [row("later", 61)])
        other.upsert("CUST002", [row("a", 2)])
        assert len(texts(one, "CUST001")) == 52
        assert texts(one, "CUST002") == ["text 2"]
        assert one._blocks.blocks["CUST001"] is kept["CUST001"]
        assert one._blocks.blocks["CUST002"] is not kept["CUST002"]


def test_the_cache_size_equals_the_size_of_its_blocks(path: Path, journal: str) -> None:
    generator = random.Random(0)
    limit = 100 * DIM * 4
    with closing(SQLiteStore(path, DIM, EMBEDDER, cache_bytes=limit)) as store:
        for seed in range(150):
            customer = f"CUST{generator.randrange(6)}"
            store.upsert(customer, [row(f"m{generator.randrange(300)}", seed)])
            if generator.random() < 0.05:
                store.delete(customer)
            texts(store, generator.choice([customer, "CUST404"]))
            assert store._blocks.nbytes == sum(block.nbytes for block in store._blocks.blocks.values())
            assert store._blocks.nbytes <= limit or len(store._blocks.blocks) == 1
        assert "CUST404" not in store._blocks.blocks
        assert len(store._blocks.blocks) > 1


def test_a_deleted_namespace_is_removed_from_memory_at_once(path: Path, journal: str) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [row("a", 1)])
        texts(store, "CUST001")
        store.delete("CUST001")
        assert (dict(store._blocks.blocks), store._blocks.nbytes) == ({}, 0)


@pytest.mark.parametrize("seed", [0, 1])
def test_threads_on_two_stores_match_the_model(path: Path, journal: str, seed: int) -> None:
    """Each thread changes only ids that start with its name, and checks these rows after every step."""
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as one, closing(SQLiteStore(path, DIM, EMBEDDER)) as other:

        def work(name: int) -> dict[str, dict[str, int]]:
            generator = random.Random(10 * seed + name)
            store = (one, other)[name % 2]
            models: dict[str, dict[str, int]] = {customer: {} for customer in CUSTOMERS}
            for step in range(25):
                customer = generator.choice(CUSTOMERS)
                model = models[customer]
                ids = [f"{name}-{generator.randrange(12)}" for _ in range(generator.randint(1, 3))]
                if generator.random() < 0.3:
                    store.delete(customer, ids)
                    for id_ in ids:
                        model.pop(id_, None)
                else:
                    rows = {id_: 1000 * name + 3 * step + n for n, id_ in enumerate(ids)}
                    store.upsert(customer, [row(id_, s) for id_, s in rows.items()])
                    model |= rows
                found = store.search(customer, vector_of(step), 1000)
                assert [match.text for match in found if match.id.startswith(f"{name}-")] == expected_texts(model, step)
            return models

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(work, range(8)))
        for customer in CUSTOMERS:
            whole = {id_: s for models in results for id_, s in models[customer].items()}
            assert texts(one, customer) == texts(other, customer) == expected_texts(whole)
            assert {r.id: r.text for r in one.export(customer)} == {id_: f"text {s}" for id_, s in whole.items()}


def test_a_full_disk_fails_only_the_write_that_does_not_fit(path: Path, journal: str) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [row("first", 1)])
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages + 4}")
        big = [row(f"big{seed}", seed) for seed in range(2000)]
        with ThreadPoolExecutor(8) as pool:
            with store._lock:  # all writes queue up and then share a transaction
                writes = [pool.submit(store.upsert, "CUST001", [row(f"m{seed}", seed)]) for seed in range(2, 6)]
                failing = pool.submit(store.upsert, "CUST001", big)
                writes += [pool.submit(store.upsert, "CUST001", [row(f"m{seed}", seed)]) for seed in range(6, 9)]
                wait_until(lambda: len(store._commits._waiting) == 8)
            with pytest.raises(StoreError, match=r"full.*Free some disk space"):
                failing.result(10)
            for write in writes:
                write.result(10)
        model = {"first": 1} | {f"m{seed}": seed for seed in range(2, 9)}
        assert texts(store, "CUST001") == expected_texts(model)
        store._db.execute("PRAGMA max_page_count = 100000")
        store.upsert("CUST001", big)
        assert store.count() == 2008


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
