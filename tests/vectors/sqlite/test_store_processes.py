"""One file used by several threads and processes: their changes are found, and kills lose no acknowledged row."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support import ROOT
from tests.support.store_model import CUSTOMERS, DIM, EMBEDDER, expected_texts, is_intact, row, texts, vector_of

PEER = """
import json, sys
from pathlib import Path
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import DIM, EMBEDDER, row, texts
store = SQLiteStore(Path(sys.argv[1]), DIM, EMBEDDER)
for line in sys.stdin:
    do, customer, given = json.loads(line)
    if do == "upsert":
        store.upsert(customer, [row(id_, seed) for id_, seed in given.items()])
    elif do == "delete":
        store.delete(customer, given)
    print(json.dumps(texts(store, customer)), flush=True)
"""


@contextmanager
def peer(path: Path) -> Iterator[Callable[..., list[str]]]:
    """Start another process on the file; yield a function that runs a call in it and returns all texts it finds."""
    with subprocess.Popen(
        [sys.executable, "-c", PEER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:

        def call(do: str, customer: str, given: Any = None) -> list[str]:
            process.stdin.write(json.dumps([do, customer, given]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield call


def test_rows_deleted_by_another_process_are_not_found(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store, peer(path) as call:
        model = {f"m{seed}": seed for seed in range(1, 5)}
        store.upsert("CUST001", [row(id_, seed) for id_, seed in model.items()])
        assert texts(store, "CUST001") == call("search", "CUST001") == expected_texts(model)
        call("delete", "CUST001", ["m2"])
        del model["m2"]
        assert texts(store, "CUST001") == expected_texts(model)
        store.delete("CUST001", ["m3"])
        del model["m3"]
        assert call("search", "CUST001") == expected_texts(model)
        call("delete", "CUST001")
        assert texts(store, "CUST001") == []
        assert call("upsert", "CUST001", {"m1": 9}) == texts(store, "CUST001") == ["text 9"]
        store.delete("CUST001")
        assert call("search", "CUST001") == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_two_processes_match_the_model_after_every_step(path: Path, seed: int) -> None:
    generator = random.Random(seed)
    models: dict[str, dict[str, int]] = {customer: {} for customer in CUSTOMERS}
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store, peer(path) as call:
        for step in range(60):
            customer = generator.choice(CUSTOMERS)
            ids = generator.sample([f"m{n}" for n in range(20)], generator.randint(1, 4))
            ours, kind = generator.random() < 0.5, generator.random()
            if kind < 0.65:
                rows = {id_: 10 * step + n for n, id_ in enumerate(ids)}
                models[customer] |= rows
                if ours:
                    store.upsert(customer, [row(id_, s) for id_, s in rows.items()])
                else:
                    call("upsert", customer, rows)
            else:
                deleted = None if kind > 0.95 else ids
                models[customer] = {id_: s for id_, s in models[customer].items() if deleted and id_ not in deleted}
                store.delete(customer, deleted) if ours else call("delete", customer, deleted)
            assert texts(store, customer) == expected_texts(models[customer])
            if generator.random() < 0.5:
                assert call("search", customer) == expected_texts(models[customer])


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


WRITER = """
import os, sys, threading
from pathlib import Path
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import DIM, EMBEDDER, row, texts
store = SQLiteStore(Path(sys.argv[1]), DIM, EMBEDDER)
def write(name):
    for i in range(1_000_000):
        texts(store, "CUST001", top_k=1)
        store.upsert("CUST001", [row(f"{name}-{i}", i)])
        os.write(1, f"{name}-{i}\\n".encode())
for n in range(8):
    threading.Thread(target=write, args=(f"{sys.argv[2]}{n}",)).start()
"""


def test_rows_acknowledged_by_killed_processes_with_eight_threads_are_stored(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for name in ("a", "b")
    ]
    acknowledged: list[str] = []
    for writer in writers:
        acknowledged += [writer.stdout.readline().strip() for _ in range(100)]
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.communicate()[0].splitlines()

    assert is_intact(path)
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        kept = {row.id for row in store.export("CUST001")}
        assert len({id_.split("-")[0] for id_ in acknowledged}) == 16
        assert set(acknowledged) <= kept
        assert len(kept) <= len(acknowledged) + 16  # at most one unacknowledged row per thread
        store.upsert("CUST001", [row("after", 1)])
