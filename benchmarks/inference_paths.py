"""Texts per second of the served classifier with each runtime, and agreement of the labels with eager torch.

python benchmarks/inference_paths.py    # a few minutes; OpenVINO and torch.compile only if they are installed

One process, one core per runtime (the server runs one pass per core at the same time). The queries are random test
texts in passes of 1, 8 (as served) and 32. One pass returns both the logits and the embedding of the base model.
"""

import importlib.util
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bankllm import datasets
from bankllm.assistant.batcher import MAX_BATCH
from bankllm.assistant.runtime import DEFAULT_ADAPTER
from bankllm.model.artifact import Scores
from bankllm.model.export import export_onnx
from bankllm.model.export_graphs import PackedGraph, pack
from bankllm.model.onnx_classifier import PACKED_INPUTS, OnnxClassifier
from bankllm.model.torch_classifier import IntentClassifier

TEXTS = 256
REFERENCE = "torch, eager, fp32"
Run = Callable[[Sequence[str]], Scores]


class OpenVinoSession:
    """The interface of ONNX Runtime's session that `OnnxClassifier` uses, implemented with OpenVINO."""

    def __init__(self, graph: Path, like: Any) -> None:
        import openvino

        options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        self._model = openvino.Core().compile_model(str(graph), "CPU", options)
        self.get_outputs = like.get_outputs

    def run(self, outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        results = self._model(inputs)
        return [results[name] for name in outputs]


class CompiledSession:
    """The same interface with torch.compile, for the packed graph."""

    def __init__(self, like: Any) -> None:
        classifier = IntentClassifier.load(DEFAULT_ADAPTER)
        batch = classifier.tokenizer(["two texts", "of several tokens"], padding=True, return_tensors="pt")
        texts = dict(zip(PACKED_INPUTS, pack(batch["input_ids"], batch["attention_mask"]), strict=True))
        sizes = {name: {tensor.ndim - 1: torch.export.Dim.AUTO} for name, tensor in texts.items()}
        program = torch.export.export(PackedGraph(classifier).eval(), (), texts, dynamic_shapes=sizes)
        self._graph = torch.compile(program.module(), dynamic=True)
        self.get_outputs = like.get_outputs

    def run(self, outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            results = self._graph(**{name: torch.from_numpy(values) for name, values in inputs.items()})
        return [tensor.numpy() for tensor in results]


def paths(folder: Path) -> Iterator[tuple[str, Run]]:
    torch.set_num_threads(1)
    classifier = IntentClassifier.load(DEFAULT_ADAPTER)
    yield REFERENCE, lambda texts: classifier.score(texts, batch_size=len(texts))
    fp32 = export_onnx(DEFAULT_ADAPTER, folder / "fp32.onnx")
    graph = OnnxClassifier.load(fp32, threads=1)
    yield "ONNX Runtime, fp32", lambda texts: graph.score(texts, batch_size=len(texts))
    if importlib.util.find_spec("openvino"):
        graph.session = OpenVinoSession(fp32, graph.session)
        yield "OpenVINO, fp32", lambda texts: graph.score(texts, batch_size=len(texts))
    else:
        print("OpenVINO is not installed, so its row is left out (pip install openvino)")
    try:
        graph.session = CompiledSession(graph.session)
        graph.predict(["warm up", "twice as long a text"])
    except Exception as error:  # noqa: BLE001  without a C++ compiler it raises various errors
        print(f"torch.compile failed ({type(error).__name__}), so its row is left out")
    else:
        yield "torch.compile, fp32", lambda texts: graph.score(texts, batch_size=len(texts))


def chunks(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (texts[start : start + size] for start in range(0, len(texts), size))


def speed(run: Run, passes: Sequence[Sequence[str]]) -> float:
    """Return texts per second, the better of two rounds."""
    best = 0.0
    for _ in range(2):
        start = time.perf_counter()
        for texts in passes:
            run(texts)
        best = max(best, sum(map(len, passes)) / (time.perf_counter() - start))
    return best


def main() -> None:
    data = datasets.load("auto")
    print(data.describe())
    queries = random.Random(0).choices(data.test.texts, k=TEXTS)
    everything = list(chunks(sorted(data.test.texts, key=len), MAX_BATCH))
    reference: np.ndarray | None = None
    print(f"{'texts per second on one core, passes of':40} {'1':>6} {'8':>6} {'32':>6}  {'agreement':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, run in paths(Path(folder)):
            run(queries[:MAX_BATCH])
            speeds = [speed(run, list(chunks(queries[: TEXTS if size > 1 else 128], size))) for size in (1, 8, 32)]
            labels = np.concatenate([run(texts).probabilities.argmax(axis=1) for texts in everything])
            reference = labels if reference is None else reference
            shown = "".join(f" {figure:6.0f}" for figure in speeds)
            print(f"{name:40}{shown}   {np.mean(labels == reference):9.2%}", flush=True)


if __name__ == "__main__":
    main()
