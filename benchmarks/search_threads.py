"""Throughput of searches and classification with one BLAS thread per search, and with one per core.

python benchmarks/search_threads.py [--rows 5000] [--seconds 4]

The threads are those of a server: one thread per core classifies batches, and two threads search the rows of one
customer. In one process, numpy's BLAS alternates between one thread and all of them.
"""

import argparse
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import numpy as np
from threadpoolctl import threadpool_limits

from bankllm import datasets
from bankllm.assistant.runtime import DEFAULT_ADAPTER, load_classifier
from bankllm.settings import get_settings
from bankllm.util.processes import usable_cores

BATCH, SEARCHERS = 8, 2


def count(work: dict[str, tuple[int, Callable[[], object]]], seconds: float) -> Counter[str]:
    """Run all kinds of work at the same time, and return how often each was done."""
    until = monotonic() + seconds

    def repeat(do: Callable[[], object]) -> int:
        times = 0
        while monotonic() < until:
            do()
            times += 1
        return times

    with ThreadPoolExecutor(sum(n for n, _ in work.values())) as pool:
        running = {name: [pool.submit(repeat, do) for _ in range(n)] for name, (n, do) in work.items()}
    return Counter({name: sum(each.result() for each in futures) for name, futures in running.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    settings = get_settings()
    classifier, passes = load_classifier(DEFAULT_ADAPTER, settings)
    texts = random.Random(0).sample(datasets.load("auto").test.texts, BATCH)
    rows = np.random.default_rng(0).standard_normal((options.rows, 384), dtype=np.float32)
    work = {
        "passes": (passes, lambda: classifier.score(texts)),
        "searches": (SEARCHERS, lambda: np.dot(rows, rows[0])),
    }
    totals = {1: Counter[str](), usable_cores(): Counter[str]()}
    for round_ in range(options.rounds):
        for threads, total in totals.items():
            with threadpool_limits(limits=threads, user_api="blas"):
                done = count(work, options.seconds)
            total.update(done)
            print(
                f"round {round_ + 1}, BLAS threads {threads}: " + ", ".join(f"{n:,} {name}" for name, n in done.items())
            )
    one, all_ = totals.values()
    for name in work:
        print(f"{name}: {one[name] / all_[name]:.2f} × as many with one core per search as with all cores")


if __name__ == "__main__":
    main()
