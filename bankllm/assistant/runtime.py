"""Load the served classifier in its inference runtime: an ONNX graph on a CPU, torch on a GPU (`BANKLLM_INFERENCE`).

`benchmarks/inference_paths.py` compares the runtimes; the README in its folder has the results. The memory's
embeddings come from the same model if the base model's own output can be computed in the classifier's forward pass.
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

MIN_PARALLEL_TEXTS = 32
"""From this number of texts on, an embedder splits them between threads. For fewer texts the overhead is larger than
the gain."""
PRECISIONS: dict[str, Precision] = {"onnx": "fp32", "onnx-int8": "int8"}


def load_classifier(folder: Path, settings: Settings) -> tuple[Classifier, int]:
    """Load the classifier in `folder` with the runtime of the settings.

    Returns the classifier and the number of forward passes that it can run in parallel. An ONNX graph that is not in
    the cache is exported first. Raises `ModelError` if the folder contains no classifier, or if its base model is
    missing or is not the model that it was trained on.
    """
    runtime, threads = _runtime(settings), settings.encoder_threads or usable_cores()
    if runtime == "torch":
        import torch

        from bankllm.model.torch_classifier import IntentClassifier

        # The tokenizer keeps state between calls, so only one pass can run at a time.
        torch.set_num_threads(threads)
        return IntentClassifier.load(folder), 1
    from bankllm.model.export import cached_export
    from bankllm.model.onnx_classifier import OnnxClassifier

    graph = cached_export(folder, PRECISIONS[runtime], settings)
    # One thread per pass: a pass is too small to split, because every layer would wait for its slowest thread.
    return OnnxClassifier.load(graph, threads=1), threads


def served_embedder(folder: Path, settings: Settings) -> Embedder:
    """The embedder that a server of the classifier in `folder` uses for its memory. Raises `ModelError`."""
    classifier, threads = load_classifier(folder, settings)
    return shared_embedder(classifier, settings, threads) or Embedder(settings=settings)


def shared_embedder(classifier: Classifier, settings: Settings, threads: int = 1) -> Embedder | None:
    """An embedder that runs the classifier's model; None if its vectors would differ from the base model's.

    From `MIN_PARALLEL_TEXTS` texts on, it runs up to `threads` passes in parallel.
    """
    base = base_models.resolve(classifier.artifact.base_model, settings)
    if not (classifier.shares_base_embedding and base_models.is_mean_pooled(base)):
        return None
    return Embedder(
        classifier.artifact.base_model,
        settings=settings,
        encode=_ParallelEncoder(classifier, threads).encode if threads > 1 else classifier.embed,
        tokenise=classifier.embedding_tokenise,
        variant=classifier.variant,
    )


class _ParallelEncoder:
    """Embeds texts in several threads: thread i embeds texts i, i + threads, i + 2 * threads, and so on."""

    def __init__(self, classifier: Classifier, threads: int) -> None:
        self._classifier = classifier
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "embed")

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, dim) embeddings, in the order of the texts."""
        if len(texts) < MIN_PARALLEL_TEXTS:
            return self._classifier.embed(texts)
        parts = list(self._pool.map(self._classifier.embed, [texts[i :: self._threads] for i in range(self._threads)]))
        vectors = np.empty((len(texts), parts[0].shape[1]), parts[0].dtype)
        for i, part in enumerate(parts):
            vectors[i :: self._threads] = part
        return vectors


def prepare(folder: Path, settings: Settings) -> None:
    """Export the ONNX graph if it is not in the cache yet.

    Call it before several workers start, so that they do not all export it. Raises `ModelError`.
    """
    if (runtime := _runtime(settings)) in PRECISIONS:
        from bankllm.model.export import cached_export

        cached_export(folder, PRECISIONS[runtime], settings)


def _runtime(settings: Settings) -> str:
    if settings.inference == "auto":
        return "torch" if _has_gpu(settings) else "onnx"
    return settings.inference


def _has_gpu(settings: Settings) -> bool:
    if settings.device == "cpu" or not (settings.device == "cuda" or base_models.has_cuda_driver()):
        return False
    return base_models.device(settings) == "cuda"
