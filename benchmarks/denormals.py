"""Speed of the served classifier with and without flushing denormal numbers to zero, in alternating rounds.

python benchmarks/denormals.py [--rounds 5]

The option holds for the thread that opens the process's first session, so each round is a process of its own. The time
is the thread's CPU time, because other programs use the same cores.
"""

import argparse
import random
import statistics
import subprocess
import sys
from time import thread_time

import onnxruntime

from bankllm import datasets
from bankllm.assistant.runtime import DEFAULT_ADAPTER, load_classifier
from bankllm.settings import get_settings

BATCH, BATCHES = 8, 40


def texts_per_second(keep: bool) -> float:
    if keep:
        # The first session decides, so the classifier's own session, which sets the option, comes too late.
        onnxruntime.InferenceSession(_identity(), providers=["CPUExecutionProvider"])
    classifier, _ = load_classifier(DEFAULT_ADAPTER, get_settings())
    texts = datasets.load("auto").test.texts
    batches = [random.Random(number).sample(texts, BATCH) for number in range(BATCHES)]
    classifier.score(batches[0])
    start = thread_time()
    for batch in batches:
        classifier.score(batch)
    return BATCH * BATCHES / (thread_time() - start)


def _identity() -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=["kept", "flushed"], help="Measure one round in this process.")
    arguments = parser.parse_args()
    if arguments.one:
        print(texts_per_second(arguments.one == "kept"))
        return
    rates: dict[str, list[float]] = {"kept": [], "flushed": []}
    for _ in range(arguments.rounds):
        for name, values in rates.items():
            command = [sys.executable, __file__, "--one", name]
            values.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    for name, values in rates.items():
        print(f"denormal numbers {name}, texts/s of CPU time: {', '.join(f'{rate:.0f}' for rate in values)}")
    ratios = [flushed / kept for kept, flushed in zip(rates["kept"], rates["flushed"], strict=True)]
    print(f"flushed is {statistics.median(ratios):.2f} × as fast as kept (median of the rounds)")


if __name__ == "__main__":
    main()
