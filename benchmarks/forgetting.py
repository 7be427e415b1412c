"""Chat latency while the long histories of customers are deleted.

python benchmarks/forgetting.py [--rows 10000] [--rate 40] [--rounds 3] [--before 63dba38]

Ten customers with `--rows` stored turns each chat at a steady rate, and their messages are deleted one customer after
the other through the API. The server of an older commit ("before") and of this tree ("after") alternate, each on a
fresh copy of the same file.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from store_turns import ROOT, unpack

from bankllm import datasets
from bankllm.assistant.bank.backends.demo_bank import CUSTOMERS
from bankllm.loadtest.experiments.soak import delete_memory
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.file import open_existing, read_meta
from bankllm.vectors.sqlite.store import SQLiteStore

BEFORE_S = 5
LOAD_S = 30
SLOW_MS = 100
REPLY = "A reply of ordinary length, as the assistant words it. " * 4


def fill(path: Path, texts: Sequence[str], rows: int) -> None:
    """Store turns with random vectors for each customer, interleaved as over many days."""
    with ServerProcess(store=path):
        pass  # creates a file with the embedder's name
    db = open_existing(path)
    embedder = read_meta(db)["embedder"]
    db.close()
    store, random, day = SQLiteStore(path, 384, embedder), np.random.default_rng(0), 100
    for start in range(0, rows, day):
        for customer in CUSTOMERS:
            vectors = random.normal(size=(day, 384))
            kept = {"assistant_response": REPLY, "intent": "card_arrival", "conversation_id": "benchmark"}
            turns = [
                Row(f"{customer}-{start + i}", texts[(start + i) % len(texts)], v, kept) for i, v in enumerate(vectors)
            ]
            store.upsert(customer, turns)
    store.close()


def measure(code: Path, store: Path, texts: Sequence[str], rate: float, folder: Path) -> tuple[float, np.ndarray]:
    """Return the seconds to delete the messages of all customers, and the latencies of the chats in ms.

    The chats start `BEFORE_S` before the first delete and continue until after the last one.
    """
    folder.mkdir(exist_ok=True)
    path = folder / "memory.sqlite"
    shutil.copyfile(store, path)
    load = partial(
        run_load, driver="open-loop", arrivals="constant", rate=rate, requests=round(rate * LOAD_S),
        warm_up=round(rate * BEFORE_S), messages=texts, customers=CUSTOMERS, output=folder,
    )  # fmt: skip
    # Without -P, Python would import the package from the current folder instead of PYTHONPATH.
    python, env = (sys.executable, "-P"), {"PYTHONPATH": str(code)}
    where = [*python, "-c", "import bankllm; print(bankllm.__file__)"]
    imported = subprocess.run(where, env=os.environ | env, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(imported).is_relative_to(code):
        sys.exit(f"Expected the package of {code}, imported {imported}.")
    program = (*python, "-m", "bankllm", "serve")
    with ServerProcess(store=path, env=env, program=program) as server, ThreadPoolExecutor(1) as pool:
        running = pool.submit(load, server.url)
        time.sleep(2 * BEFORE_S)
        began = time.monotonic()
        delete_memory(server.url, CUSTOMERS)
        delete_s = time.monotonic() - began
        result = running.result()
    if result.errors:
        sys.exit(f"Expected no errors, found {result.errors}.")
    return delete_s, np.array([row["latency_ms"] for row in result.rows if row["phase"] == "steady"], float)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--rate", type=float, default=40)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--before", default="63dba38", metavar="COMMIT")
    chosen = options.parse_args()
    texts = datasets.load("banking77").test.texts
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "filled.sqlite", texts, chosen.rows)
        codes = {"before": unpack(chosen.before, folder / "code"), "after": ROOT}
        print(f"{'':<7} s to delete all  chats > {SLOW_MS} ms  p99 ms  slowest ms")
        for _ in range(chosen.rounds):
            for title, code in codes.items():
                delete_s, ms = measure(code, folder / "filled.sqlite", texts, chosen.rate, folder / title)
                slow = f"{(ms > SLOW_MS).sum()} of {len(ms)}"
                print(
                    f"{title:<7} {delete_s:15.1f}  {slow:>14}  {np.percentile(ms, 99):6.0f}  {ms.max():10.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
