"""Speed of the served classifier with and without flushing denormal numbers to zero, in alternating rounds.

python benchmarks/denormals.py [--rounds 5]
"""

import argparse
import contextlib
import random
import statistics
from collections.abc import Callable
from time import perf_counter
from unittest import mock

from bankllm import datasets
from bankllm.assistant.engine import DEFAULT_ADAPTER
from bankllm.assistant.runtime import load_classifier
from bankllm.model import onnx_classifier
from bankllm.settings import get_settings

BATCH, BATCHES = 8, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    texts = datasets.load("auto").test.texts
    batches = [random.Random(number).sample(texts, BATCH) for number in range(BATCHES)]
    variants: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
        "kept": contextlib.nullcontext,
        "flushed": onnx_classifier.flush_denormals,
    }
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, flush in variants.items():
            with mock.patch.object(onnx_classifier, "flush_denormals", flush):
                classifier, _ = load_classifier(DEFAULT_ADAPTER, get_settings())
                classifier.score(batches[0])
                start = perf_counter()
                for batch in batches:
                    classifier.score(batch)
                rates[name].append(BATCH * BATCHES / (perf_counter() - start))
    for name, values in rates.items():
        print(f"denormal numbers {name}, texts/s: {', '.join(f'{rate:.0f}' for rate in values)}")
    ratios = [flushed / kept for kept, flushed in zip(rates["kept"], rates["flushed"], strict=True)]
    print(f"flushed is {statistics.median(ratios):.2f} × as fast as kept (median of the rounds)")


if __name__ == "__main__":
    main()
