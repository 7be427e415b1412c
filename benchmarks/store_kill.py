"""Kill writers at random times and check that no acknowledged write is lost.

python benchmarks/store_kill.py [--rounds 20]

In each round, two processes with several threads each write to one file, delete some of their rows, and print each
write that was acknowledged. Both are killed (SIGKILL) after 0.2 to 1.5 s; then the file is opened and checked, also by
searches by words and by both rankings.
"""

import argparse
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from bankllm.vectors.rows import Query, Row
from bankllm.vectors.sqlite.store import SQLiteStore

ROOT = Path(__file__).resolve().parents[1]
DIM = 384
EMBEDDER = "benchmark@0"
CUSTOMERS = THREADS = 4
BATCH = 3
REMOVED_EVERY = 10


@dataclass(frozen=True)
class Round:
    acknowledged: int
    """Rows whose write the killed processes had acknowledged."""
    lost: int
    """Acknowledged rows that are missing."""
    reappeared: int
    """Rows that are present although their deletion was acknowledged."""
    partial: int
    """Writes of several rows of which only some are present."""
    unfound: int
    """Rows that a lexical or hybrid search does not find, or finds although they are not stored."""
    integrity_ok: bool
    """Whether SQLite's integrity check finds no error."""


def write(path: Path, name: str) -> None:
    """Run a writer until it is killed. It prints `ready`, then `+NAME` or `-NAME` when a write or delete is on disk."""
    store = SQLiteStore(path, DIM, EMBEDDER)

    def serve(thread: int) -> None:
        numbers = np.random.default_rng(thread)
        customer = f"CUST{thread % CUSTOMERS}"
        for number in range(10**9):
            batch = f"{name}-{thread}-{number}"
            vectors = numbers.normal(size=(BATCH, DIM))
            store.upsert(
                customer,
                [Row(f"{batch}-{i}", f"message {batch} " + "t" * 90, vector) for i, vector in enumerate(vectors)],
            )
            os.write(1, f"+{batch}\n".encode())
            if number % REMOVED_EVERY == 1:
                # Printed before the delete: rows whose deletion is interrupted may be present or not.
                os.write(1, f"?{batch}\n".encode())
                store.delete(customer, [f"{batch}-{i}" for i in range(BATCH)])
                os.write(1, f"-{batch}\n".encode())

    os.write(1, b"ready\n")
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(serve, range(THREADS)))


def parse_output(output: IO[str]) -> tuple[set[str], set[str], set[str]]:
    """Return acknowledged writes, started deletes and acknowledged deletes from the output of a process."""
    lines = output.read().splitlines()
    return tuple({line[1:] for line in lines if line.startswith(mark)} for mark in "+?-")  # type: ignore[return-value]


def kill_round(path: Path, number: int, after_s: float) -> Round:
    """Run one round on a file that may contain rows of earlier rounds; kill the writers after `after_s` seconds."""
    command, environment = [sys.executable, __file__, "--write", str(path)], os.environ | {"PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen([*command, f"{number}{process}"], stdout=subprocess.PIPE, text=True, env=environment)
        for process in "ab"
    ]
    outputs = [process.stdout for process in running if process.stdout is not None]
    if any(output.readline() != "ready\n" for output in outputs):
        sys.exit("A writer exited before it was ready. See its error above.")
    with ThreadPoolExecutor(2) as pool:  # reads both pipes to their ends, so that no writer blocks on a full pipe
        reading = [pool.submit(parse_output, output) for output in outputs]
        try:
            time.sleep(after_s)
        finally:
            for process in running:
                process.kill()
    for process in running:
        process.wait()
    written, started, removed = (
        set().union(*parts) for parts in zip(*[part.result() for part in reading], strict=True)
    )
    with closing(sqlite3.connect(path)) as db:
        intact = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        stored = {f"CUST{n}": [row.id for row in store.export(f"CUST{n}")] for n in range(CUSTOMERS)}
        kept = Counter(id_.rsplit("-", 1)[0] for ids in stored.values() for id_ in ids)
        unfound = 0
        for customer, ids in stored.items():
            for mode in ("lexical", "hybrid"):
                query = Query(customer, np.ones(DIM), ["message"], mode)
                found = {match.id for match in store.search_many([query], len(ids) + 1)[0]}
                unfound += len(found ^ set(ids))
        return Round(
            acknowledged=BATCH * len(written),
            lost=sum(BATCH - kept[batch] for batch in written - started),
            reappeared=sum(kept[batch] for batch in removed),
            partial=sum(count != BATCH for count in kept.values()),
            unfound=unfound,
            integrity_ok=intact,
        )


def kill_rounds(path: Path, rounds: int) -> list[Round]:
    """Run several rounds on one file and print each."""
    generator, rounds_done = random.Random(0), []
    for number in range(rounds):
        after_s = generator.uniform(0.2, 1.5)
        rounds_done.append(kill_round(path, number, after_s))
        print(f"round {number + 1:>3}, killed after {after_s:.2f} s: {rounds_done[-1]}", flush=True)
    return rounds_done


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.write:
        write(Path(chosen.write[0]), chosen.write[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        rounds_done = kill_rounds(Path(folder, "memory.sqlite"), chosen.rounds)
    acknowledged, lost = sum(one.acknowledged for one in rounds_done), sum(one.lost for one in rounds_done)
    print(f"{acknowledged:,} rows acknowledged in {len(rounds_done)} rounds; {lost} lost")
    if lost or any(one.reappeared or one.partial or one.unfound or not one.integrity_ok for one in rounds_done):
        sys.exit(1)


if __name__ == "__main__":
    main()
