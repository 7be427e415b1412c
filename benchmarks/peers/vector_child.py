"""One phase of the vector benchmarks in a separate process: fill a store, search it, insert rows, or count them.

python benchmarks/peers/vector_child.py ask --store chroma --layout whole --sample FOLDER --folder FOLDER

The last line of stdout is JSON; times are milliseconds. `benchmarks/vector_peers.py` starts it.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
from vector_stores import Chroma, Customer, Faiss, Lance, Ours, Rows, Store

sys.path.append(str(Path(__file__).parents[1]))

from vector_data import TOP_K, Sample, customers

STORES: dict[str, Callable[[Path, int], Store]] = {"ours": Ours, "faiss": Faiss, "chroma": Chroma, "lance": Lance}
WARM_UP = 30
EVERYTHING = "all"
"""The partition of all customers in the layout `whole`."""


def fill(store: Store, sample: Sample, options: argparse.Namespace) -> dict[str, object]:
    """Insert all rows and save each partition once."""
    vectors, texts = np.array(sample.vectors), sample.texts
    owners = owner_of_each(len(vectors))
    all_rows = {EVERYTHING: np.arange(len(vectors))}
    partitions = all_rows if options.layout == "whole" else customers(len(vectors))
    began = time.perf_counter()
    for partition, ids in partitions.items():
        rows = Rows(ids, vectors[ids], [texts[i] for i in ids], [owners[i] for i in ids])
        store.insert(partition, rows)
        store.save(partition)
    return {"seconds": time.perf_counter() - began, "rows": len(vectors)}


def ask(store: Store, sample: Sample, options: argparse.Namespace) -> dict[str, object]:
    """Search over all rows, and over the rows of random customers."""
    everyone, queries = customers(options.size), sample.queries
    generator = random.Random(0)
    found: dict[str, object] = {}
    if options.layout == "whole":
        list(timed(store, queries[:WARM_UP], lambda number: (EVERYTHING, None)))
        found["all"] = list(timed(store, queries[: options.count], lambda number: (EVERYTHING, None)))
    if options.customers:
        names = generator.choices(list(everyone), k=options.count)

        def scope(name: str) -> tuple[str, Customer | None]:
            return (EVERYTHING, Customer(name, everyone[name])) if options.layout == "whole" else (name, None)

        unseen = list(dict.fromkeys(names))
        list(timed(store, queries[np.arange(len(unseen)) % len(queries)], lambda number: scope(unseen[number])))
        found["customer"] = list(timed(store, queries[: options.count], lambda number: scope(names[number])))
        found["customer_names"] = names
    return found


def timed(
    store: Store, queries: np.ndarray, scope: Callable[[int], tuple[str, Customer | None]]
) -> Iterator[tuple[list[int], float]]:
    """Yield the ids that each search found, and its duration in ms."""
    for number, query in enumerate(queries):
        partition, customer = scope(number)
        began = time.perf_counter()
        ids = store.search(partition, query, TOP_K, customer)
        yield ids, 1000 * (time.perf_counter() - began)


def insert(store: Store, sample: Sample, options: argparse.Namespace) -> dict[str, object]:
    """Insert single rows, up to `count` rows or `seconds`, and print the ms of each; then wait for SIGKILL."""
    queries, owners = sample.queries, owner_of_each(options.size)
    rows_before, until = store.count(), time.monotonic() + options.seconds
    for number in range(options.count):
        partition = EVERYTHING if options.layout == "whole" else owners[number]
        vector = queries[number % len(queries)][None]
        row = Rows(np.array([rows_before + number]), vector, [f"inserted {number}"], [owners[number]])
        began = time.perf_counter()
        store.insert(partition, row)
        store.save(partition)
        print(1000 * (time.perf_counter() - began), flush=True)
        if time.monotonic() > until:
            break
    print("done", flush=True)
    time.sleep(60)  # the parent kills this process, so that nothing is written during a normal exit
    return {}


def count(store: Store, sample: Sample, options: argparse.Namespace) -> dict[str, object]:
    return {"count": store.count()}


PHASES = {"fill": fill, "ask": ask, "insert": insert, "count": count}


def owner_of_each(size: int) -> list[str]:
    """Return the customer of each row, the inverse of `customers`."""
    names = list(customers(size))
    return [names[row % len(names)] for row in range(size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=PHASES)
    parser.add_argument("--store", choices=STORES, required=True)
    parser.add_argument("--layout", choices=("whole", "customers"), required=True)
    parser.add_argument("--sample", type=Path, required=True, help="folder that vector_data.py wrote")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the store")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--customers", action="store_true", help="also search for single customers")
    options = parser.parse_args()
    sample = Sample(options.sample, 0)
    options.size = sample.vectors.shape[0]
    store = STORES[options.store](options.folder, sample.vectors.shape[1])
    result = PHASES[options.phase](store, sample, options)
    print(json.dumps({**result, "rss_bytes": psutil.Process().memory_info().rss}))


if __name__ == "__main__":
    main()
