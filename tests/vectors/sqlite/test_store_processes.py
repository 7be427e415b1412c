"""One file used by several processes: changes of other processes are found, and kills lose no acknowledged row."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import CUSTOMERS, DIM, EMBEDDER, expected_texts, row, texts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.sqlite"


PEER = """
import json, sys
from pathlib import Path
import numpy as np
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore
store = SQLiteStore(Path(sys.argv[1]), 8, "test-embedder@0123")
vector = lambda seed: np.random.default_rng(seed).normal(size=8).astype(np.float32)
for line in sys.stdin:
    do, customer, given = json.loads(line)
    if do == "upsert":
        store.upsert(customer, [Row(id_, f"text {seed}", vector(seed)) for id_, seed in given.items()])
    elif do == "delete":
        store.delete(customer, given)
    print(json.dumps([match.text for match in store.search(customer, vector(0), 1000)]), flush=True)
"""


@contextmanager
def peer(path: Path) -> Iterator[Callable[..., list[str]]]:
    """Start another process on the file; yield a function that runs a call in it and returns all texts it finds."""
    with subprocess.Popen(
        [sys.executable, "-c", PEER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def call(do: str, customer: str, given: Any = None) -> list[str]:
            stdin.write(json.dumps([do, customer, given]) + "\n")
            stdin.flush()
            return json.loads(stdout.readline())

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


WRITER = """
import os, sys, threading
from pathlib import Path
import numpy as np
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore
store = SQLiteStore(Path(sys.argv[1]), 8, "test-embedder@0123")
def write(name):
    for i in range(1_000_000):
        store.search("CUST001", np.ones(8), 1)
        store.upsert("CUST001", [Row(f"{name}-{i}", "t", np.ones(8))])
        os.write(1, f"{name}-{i}\\n".encode())
for n in range(8):
    threading.Thread(target=write, args=(f"{sys.argv[2]}{n}",)).start()
"""


def test_rows_acknowledged_by_killed_processes_with_eight_threads_are_stored(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    acknowledged: list[str] = []
    for writer in writers:
        assert writer.stdout is not None
        acknowledged += [writer.stdout.readline().strip() for _ in range(100)]
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.communicate()[0].splitlines()

    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        kept = {row.id for row in store.export("CUST001")}
        assert len({id_.split("-")[0] for id_ in acknowledged}) == 16
        assert set(acknowledged) <= kept
        assert len(kept) <= len(acknowledged) + 16  # at most one unacknowledged row per thread
        assert store._db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        store.upsert("CUST001", [row("after", 1)])
