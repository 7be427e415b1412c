"""What runs the served classifier: one ONNX graph on a CPU, torch on a GPU (`BANKLLM_INFERENCE`).

`tests/benchmarks/inference_paths.py` measures the choices; the README beside it has the table. The memory's embeddings
come from the same model where the adapter leaves the plain base's layers to be shared.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bankllm.model import base_models
from bankllm.model.artifact import Classifier
from bankllm.model.onnx_classifier import Precision
from bankllm.settings import Settings
from bankllm.util.processes import usable_cores
from bankllm.vectors.embedder import Embedder

WORTH_SHARING = 32
"""Texts from which an embedder splits them between the cores; fewer are done before the threads have met."""
PRECISIONS: dict[str, Precision] = {"onnx": "fp32", "onnx-int8": "int8"}


def load_classifier(folder: Path, settings: Settings) -> tuple[Classifier, int]:
    """The classifier in a folder, in the runtime that the settings choose, and how many passes it may run at once.

    A graph that is not there yet is exported first. Raises `ModelError` for a folder that holds none, or one whose
    base model is missing or another one.
    """
    runtime, threads = _runtime(settings), settings.encoder_threads or usable_cores()
    if runtime == "torch":
        import torch

        from bankllm.model.torch_classifier import IntentClassifier

        # Its tokenizer keeps state between calls, so that passes take turns.
        torch.set_num_threads(threads)
        return IntentClassifier.load(folder), 1
    from bankllm.model.export import exported
    from bankllm.model.onnx_classifier import OnnxClassifier

    graph = exported(folder, PRECISIONS[runtime], settings)
    # A pass is too little work to share: with more threads every layer waits for the slowest one.
    return OnnxClassifier.load(graph, threads=1), threads


def served_embedder(folder: Path, settings: Settings) -> Embedder:
    """The memory's embedder as a server has it that serves the classifier in `folder`. Raises `ModelError`."""
    classifier, threads = load_classifier(folder, settings)
    return shared_embedder(classifier, settings, threads) or Embedder(settings=settings)


def shared_embedder(classifier: Classifier, settings: Settings, threads: int = 1) -> Embedder | None:
    """An embedder that runs the classifier's own model; None where it would give other vectors than the base model.

    Many texts at once go through `threads` passes side by side.
    """
    base = base_models.resolve(classifier.artifact.base_model, settings)
    if not (classifier.shares_base_embedding and base_models.is_mean_pooled(base)):
        return None
    return Embedder(
        classifier.artifact.base_model,
        settings=settings,
        encode=_ManyAtOnce(classifier, threads).encode if threads > 1 else classifier.embed,
        tokenise=classifier.embedding_tokenise,
        variant=classifier.variant,
    )


class _ManyAtOnce:
    """Embeds every second text in one thread and the others in the next, where there are two."""

    def __init__(self, classifier: Classifier, threads: int) -> None:
        self._classifier = classifier
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "embed")

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if len(texts) < WORTH_SHARING:
            return self._classifier.embed(texts)
        parts = list(self._pool.map(self._classifier.embed, [texts[i :: self._threads] for i in range(self._threads)]))
        vectors = np.empty((len(texts), parts[0].shape[1]), parts[0].dtype)
        for i, part in enumerate(parts):
            vectors[i :: self._threads] = part
        return vectors


def prepare(folder: Path, settings: Settings) -> None:
    """Export the graph if it is not there yet, so that several workers do not do so at once. Raises `ModelError`."""
    if (runtime := _runtime(settings)) in PRECISIONS:
        from bankllm.model.export import exported

        exported(folder, PRECISIONS[runtime], settings)


def _runtime(settings: Settings) -> str:
    if settings.inference == "auto":
        return "torch" if _has_gpu(settings) else "onnx"
    return settings.inference


def _has_gpu(settings: Settings) -> bool:
    if settings.device == "cpu" or not (settings.device == "cuda" or base_models.has_cuda_driver()):
        return False
    return base_models.device(settings) == "cuda"
