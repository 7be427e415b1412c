"""Chat turns a second on one memory file: an older commit's code ("before") against this tree's ("after").

python tests/benchmarks/store_turns.py [--seconds 6] [--rounds 3] [--before 5b34759] [--folder on/the/disk]

A turn searches the customer's own 2,000 rows for the top 5, then stores one row; each thread serves a customer of its
own. Before and after alternate, each on a fresh copy of the file; the lines give the median of the rounds.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path
from statistics import median
from threading import Thread

import numpy as np

import bankllm
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore

ROOT = Path(__file__).resolve().parents[2]
LOADS = {"1 thread": (1, 1), "8 threads": (1, 8), "2 processes x 4 threads": (2, 4)}
"""Name → processes, and threads in each."""
CUSTOMERS = 8
ROWS = 2000
DIM = 384
EMBEDDER = "benchmark@0"


def fill(path: Path) -> None:
    """Write a file as the package that runs this writes it."""
    random = np.random.default_rng(0)
    store = SQLiteStore(path, DIM, EMBEDDER)
    for customer in range(CUSTOMERS):
        vectors = enumerate(random.normal(size=(ROWS, DIM)))
        store.upsert(f"CUST{customer}", [Row(f"old-{i}", f"message {i} " * 8, vector) for i, vector in vectors])
    store.close()


def take_turns(path: Path, first: int, threads: int, seconds: float) -> None:
    """One process of a load: print `ready`, begin at a line on stdin, print each turn's search and store seconds."""
    store = SQLiteStore(path, DIM, EMBEDDER)
    turns: list[tuple[float, float]] = []

    def serve(customer: int) -> None:
        random = np.random.default_rng(customer)
        number = 0
        while time.monotonic() < until:
            vector = random.normal(size=DIM)
            began = time.perf_counter()
            store.search(f"CUST{customer}", vector, 5)
            searched = time.perf_counter()
            store.upsert(f"CUST{customer}", [Row(f"new-{number}", "a message " * 8, vector)])
            turns.append((searched - began, time.perf_counter() - searched))
            number += 1

    for customer in range(first, first + threads):
        store.search(f"CUST{customer}", np.ones(DIM), 5)
    print("ready", flush=True)
    sys.stdin.readline()
    until = time.monotonic() + seconds
    serving = [Thread(target=serve, args=(customer,)) for customer in range(first, first + threads)]
    for thread in serving:
        thread.start()
    for thread in serving:
        thread.join()
    kept = store.count() - CUSTOMERS * ROWS
    if kept < len(turns):
        sys.exit(f"Expected {len(turns)} stored rows or more, found {kept}.")
    print(json.dumps(turns))


def run(code: Path, function: str, *arguments: object) -> subprocess.Popen[str]:
    """A function of this file in a process of its own, on the package that lies in `code`."""
    return subprocess.Popen(
        [sys.executable, __file__, "--in-process", function, json.dumps([str(code), *map(str, arguments)])],
        env=os.environ | {"PYTHONPATH": str(code)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run_here(function: str, code: str, *arguments: str) -> None:
    """What `run` started."""
    if not Path(bankllm.__file__).is_relative_to(code):
        sys.exit(f"Expected the package of {code}, imported {bankllm.__file__}.")
    if function == "fill":
        fill(Path(arguments[0]))
    else:
        take_turns(Path(arguments[0]), int(arguments[1]), int(arguments[2]), float(arguments[3]))


def measure(code: Path, filled: Path, processes: int, threads: int, seconds: float) -> list[list[float]]:
    """Search and store seconds of every turn of one load."""
    path = filled.with_name("turns.sqlite")
    for leftover in path.parent.glob("turns.sqlite*"):
        leftover.unlink()
    shutil.copyfile(filled, path)
    running = [run(code, "take_turns", path, n * threads, threads, seconds) for n in range(processes)]
    if any(process.stdout.readline() != "ready\n" for process in running):
        sys.exit("Expected every process to start; the error of the one that did not stands above.")
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    return [turn for process in running for turn in json.loads(process.communicate()[0])]


def unpack(commit: str, folder: Path) -> Path:
    """The package as it stood at a commit."""
    archive = subprocess.run(["git", "archive", commit, "bankllm"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        sys.exit(f"Expected a commit of this repository, got {commit}: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=6)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--before", default="5b34759", metavar="COMMIT")
    options.add_argument("--folder", help="where the files go; default: the system's temporary folder")
    options.add_argument("--in-process", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.in_process:
        run_here(chosen.in_process[0], *json.loads(chosen.in_process[1]))
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        codes = {"before": unpack(chosen.before, Path(folder, "code")), "after": ROOT}
        for name, code in codes.items():
            if run(code, "fill", Path(folder, f"{name}.sqlite")).wait():
                sys.exit(f"The file for {name} could not be written; the error stands above.")
        print(f"{'':<24} {'':<7} turns/s  search p50   p99 ms  store p50   p99 ms")
        for load, (processes, threads) in LOADS.items():
            rounds: dict[str, list[list[float]]] = {name: [] for name in codes}
            for _ in range(chosen.rounds):
                for name, code in codes.items():
                    turns = 1000 * np.array(
                        measure(code, Path(folder, f"{name}.sqlite"), processes, threads, chosen.seconds)
                    )
                    percentiles = np.percentile(turns, [50, 99], axis=0).T.ravel()
                    rounds[name].append([len(turns) / chosen.seconds, *percentiles])
            for name, found in rounds.items():
                rate, *times = (median(column) for column in zip(*found, strict=True))
                print(f"{load:<24} {name:<7} {rate:7.1f}" + "".join(f" {time:10.2f}" for time in times))
            ratio = median(found[0] for found in rounds["after"]) / median(found[0] for found in rounds["before"])
            print(f"{load:<24} {'ratio':<7} {ratio:7.2f}", flush=True)


if __name__ == "__main__":
    main()
