"""Kill writers at random moments and count what they had been told is kept: none of it may be lost.

python tests/benchmarks/store_kill.py [--rounds 20] [--threads 4] [--seed 0]

Each round two processes write to one file with several threads each, replace and remove rows of their own, and tell
each row that was acknowledged. Both are killed (SIGKILL) after 0.2 to 1.5 s; the file is opened again and looked at.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

import numpy as np

from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore

ROOT = Path(__file__).resolve().parents[2]
DIM = 384
EMBEDDER = "benchmark@0"
CUSTOMERS = 4
BATCH = 3
REMOVED_EVERY = 10


@dataclass(frozen=True)
class Round:
    """What one round found."""

    acknowledged: int
    """Rows, as the killed processes had told."""
    lost: int
    """Of these, how many are not there."""
    returned: int
    """Removed rows, by what was acknowledged, that are there again."""
    halves: int
    """Writes of several rows that are there in part."""
    sound: bool
    """Whether SQLite's integrity check finds nothing."""
    kept: int
    """Rows in the file, those of earlier rounds too."""


def write(path: Path, name: str, threads: int) -> None:
    """One process that is to be killed: prints `ready`, then `+` or `-` with a write's name once it is on disk."""
    store = SQLiteStore(path, DIM, EMBEDDER)

    def serve(thread: int) -> None:
        numbers = np.random.default_rng(thread)
        customer = f"CUST{thread % CUSTOMERS}"
        for number in range(10**9):
            batch = f"{name}-{thread}-{number}"
            vectors = numbers.normal(size=(BATCH, DIM))
            store.upsert(customer, [Row(f"{batch}-{i}", "t" * 100, vector) for i, vector in enumerate(vectors)])
            os.write(1, f"+{batch}\n".encode())
            if number % REMOVED_EVERY == 1:
                # Told before too: what is being removed when the kill comes may be there or not.
                os.write(1, f"?{batch}\n".encode())
                store.delete(customer, [f"{batch}-{i}" for i in range(BATCH)])
                os.write(1, f"-{batch}\n".encode())

    os.write(1, b"ready\n")
    serving = [Thread(target=serve, args=(thread,)) for thread in range(threads)]
    for thread in serving:
        thread.start()
    for thread in serving:
        thread.join()


def told(output: IO[str]) -> tuple[set[str], set[str], set[str]]:
    """Writes that a process has acknowledged, removals it has begun, removals it has acknowledged."""
    lines = output.read().splitlines()
    return tuple({line[1:] for line in lines if line.startswith(mark)} for mark in "+?-")  # type: ignore[return-value]


def kill_round(path: Path, number: int, threads: int, after_s: float) -> Round:
    """One round on a file that earlier rounds may have filled."""
    called = [sys.executable, __file__, "--write", str(path), "--threads", str(threads)]
    running = [
        subprocess.Popen(
            [*called, "--name", f"{number}{process}"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for process in "ab"
    ]
    outputs = [process.stdout for process in running if process.stdout is not None]
    if any(output.readline() != "ready\n" for output in outputs):
        sys.exit("Expected both writers to start; the error of the one that did not stands above.")
    readers = [_Collected(output) for output in outputs]
    try:
        readers[0].join(after_s)
    finally:
        for process in running:
            process.kill()
    for process in running:
        process.wait()
    written: set[str] = set()
    begun: set[str] = set()
    removed: set[str] = set()
    for reader in readers:
        reader.join()
        for whole, part in zip((written, begun, removed), reader.found, strict=True):
            whole |= part
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        kept: dict[str, int] = {}
        for customer in range(CUSTOMERS):
            for row in store.export(f"CUST{customer}"):
                batch = row.id.rsplit("-", 1)[0]
                kept[batch] = kept.get(batch, 0) + 1
        return Round(
            acknowledged=BATCH * len(written),
            lost=sum(BATCH - kept.get(batch, 0) for batch in written - begun),
            returned=sum(kept.get(batch, 0) for batch in removed),
            halves=sum(count != BATCH for count in kept.values()),
            sound=store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)],
            kept=store.count(),
        )


class _Collected(Thread):
    """Reads a pipe to its end, so that who writes never waits for it."""

    def __init__(self, output: IO[str]) -> None:
        super().__init__()
        self._output = output
        self.found: tuple[set[str], ...] = ()
        self.start()

    def run(self) -> None:
        self.found = told(self._output)


def kill_rounds(path: Path, rounds: int, threads: int, seed: int) -> list[Round]:
    """Several rounds on one file, each printed."""
    generator, found = random.Random(seed), []
    for number in range(rounds):
        after_s = generator.uniform(0.2, 1.5)
        found.append(kill_round(path, number, threads, after_s))
        print(f"round {number + 1:>3}, killed after {after_s:.2f} s: {found[-1]}", flush=True)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--threads", type=int, default=4)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--name", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.write:
        write(chosen.write, chosen.name, chosen.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = kill_rounds(Path(folder, "memory.sqlite"), chosen.rounds, chosen.threads, chosen.seed)
    acknowledged, lost = sum(one.acknowledged for one in found), sum(one.lost for one in found)
    print(f"{acknowledged:,} rows acknowledged in {len(found)} rounds; {lost} lost")
    if lost or any(one.returned or one.halves or not one.sound for one in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
