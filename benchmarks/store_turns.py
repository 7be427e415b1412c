"""Chat turns per second on one store file: the code of an older commit ("before") and of this tree ("after").

python benchmarks/store_turns.py [--seconds 6] [--rounds 3] [--before 5b34759] [--folder on/the/disk]

A turn searches the customer's 2,000 rows for the top 5 and then stores one row. Each thread serves another customer.
Before and after alternate, each on a fresh copy of the file. The lines show the median of the rounds.
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

try:
    from bankllm.vectors.sqlite.store import SQLiteStore
except ImportError:  # in the process of a commit from before the folder vectors/sqlite
    from bankllm.vectors.store import SQLiteStore

ROOT = Path(__file__).resolve().parents[1]
LOADS = {"1 thread": (1, 1), "8 threads": (1, 8), "2 processes x 4 threads": (2, 4)}
"""Name → (processes, threads per process)."""
CUSTOMERS = 8
ROWS = 2000
DIM = 384
EMBEDDER = "benchmark@0"


def fill(path: Path) -> None:
    """Write a file with the imported package."""
    random = np.random.default_rng(0)
    store = SQLiteStore(path, DIM, EMBEDDER)
    for customer in range(CUSTOMERS):
        vectors = enumerate(random.normal(size=(ROWS, DIM)))
        store.upsert(f"CUST{customer}", [Row(f"old-{i}", f"message {i} " * 8, vector) for i, vector in vectors])
    store.close()


def take_turns(path: Path, first: int, threads: int, seconds: float) -> None:
    """Run one process of a load: print `ready`, wait for a line on stdin, and print search and store s per turn."""
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
    """Run a function of this file in a separate process with the package in the folder `code`."""
    return subprocess.Popen(
        [sys.executable, __file__, "--in-process", function, json.dumps([str(code), *map(str, arguments)])],
        env=os.environ | {"PYTHONPATH": str(code)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run_here(function: str, code: str, *arguments: str) -> None:
    """Run the function that `run` requested, in the new process."""
    if not Path(bankllm.__file__).is_relative_to(code):
        sys.exit(f"Expected the package of {code}, imported {bankllm.__file__}.")
    if function == "fill":
        fill(Path(arguments[0]))
    else:
        take_turns(Path(arguments[0]), int(arguments[1]), int(arguments[2]), float(arguments[3]))


def measure(code: Path, filled: Path, processes: int, threads: int, seconds: float) -> list[list[float]]:
    """Run one load and return the search and store seconds of every turn."""
    path = filled.with_name("turns.sqlite")
    for leftover in path.parent.glob("turns.sqlite*"):
        leftover.unlink()
    shutil.copyfile(filled, path)
    running = [run(code, "take_turns", path, n * threads, threads, seconds) for n in range(processes)]
    if any(process.stdout.readline() != "ready\n" for process in running):
        sys.exit("A process exited before it was ready. See its error above.")
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    return [turn for process in running for turn in json.loads(process.communicate()[0])]


def unpack(commit: str, folder: Path) -> Path:
    """Extract the package of a commit into a folder, and return the folder."""
    archive = subprocess.run(["git", "archive", commit, "bankllm"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        sys.exit(f"Expected a commit of this repository, found {commit}: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=6)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--before", default="5b34759", metavar="COMMIT")
    options.add_argument("--folder", help="folder of the files; default: the system's temporary folder")
    options.add_argument("--in-process", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.in_process:
        run_here(chosen.in_process[0], *json.loads(chosen.in_process[1]))
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        codes = {"before": unpack(chosen.before, Path(folder, "code")), "after": ROOT}
        for name, code in codes.items():
            if run(code, "fill", Path(folder, f"{name}.sqlite")).wait():
                sys.exit(f"The file for {name} could not be written. See the error above.")
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
            for name, columns in rounds.items():
                rate, *times = (median(column) for column in zip(*columns, strict=True))
                print(f"{load:<24} {name:<7} {rate:7.1f}" + "".join(f" {time:10.2f}" for time in times))
            ratio = median(columns[0] for columns in rounds["after"]) / median(
                columns[0] for columns in rounds["before"]
            )
            print(f"{load:<24} {'ratio':<7} {ratio:7.2f}", flush=True)


if __name__ == "__main__":
    main()
