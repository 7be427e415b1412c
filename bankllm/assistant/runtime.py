"""Load the served classifier in its inference runtime: an ONNX graph on a CPU, torch on a GPU (`BANKLLM_INFERENCE`)."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bankllm.model import base_models
from bankllm.model.artifact import Classifier, ClassifierConfig
from bankllm.settings import Settings
from bankllm.util.processes import usable_cores
from bankllm.vectors.embedder import Embedder

DEFAULT_ADAPTER = Path(__file__).parents[1] / "data" / "assistant"
"""The packaged classifier: a linear head on the unchanged base model."""
EMBED_BATCH = 16
"""Texts per pass when memory embeds."""


def load_classifier(folder: Path, settings: Settings) -> tuple[Classifier, int]:
    """Load the classifier in `folder`, and return it with the number of passes that it can run in parallel.

    In ONNX Runtime each pass uses one thread: with more, every layer waits for its slowest thread. Raises `ModelError`
    if the folder contains no classifier, or if its base model is missing or is not the model that it was trained on.
    """
    threads = settings.encoder_threads or usable_cores()
    if _runs_in_torch(settings):
        import torch

        from bankllm.model.torch_classifier import IntentClassifier

        # The tokenizer keeps state between calls, so only one pass can run at a time.
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        return IntentClassifier.load(folder), 1
    from bankllm.model.export import cached_export
    from bankllm.model.onnx_classifier import OnnxClassifier

    return OnnxClassifier.load(cached_export(folder, settings), threads=1), threads


def prepare(folder: Path, settings: Settings) -> None:
    """Export the ONNX graphs that a server needs before several workers start. Raises `ModelError`."""
    if not _runs_in_torch(settings):
        from bankllm.model.export import cached_export

        for needed in {folder, DEFAULT_ADAPTER}:
            cached_export(needed, settings)


def memory_embedder(classifier: Classifier, settings: Settings) -> Embedder:
    """The embedder of a server's memory: the classifier if it embeds as its base model, else the packaged one."""
    if not embeds_as_base(classifier.artifact):
        classifier, _ = load_classifier(DEFAULT_ADAPTER, settings)
    return Embedder(
        classifier.artifact.base_model,
        settings=settings,
        encode=lambda texts: classifier.score(texts, EMBED_BATCH).embeddings,
    )


def bulk_embedder(settings: Settings) -> Embedder:
    """The embedder of a server's memory for many texts: a pass on each core at the same time. Raises `ModelError`."""
    classifier, passes = load_classifier(DEFAULT_ADAPTER, settings)
    pool = ThreadPoolExecutor(passes)

    def encode(texts: list[str]) -> np.ndarray:
        parts = pool.map(lambda first: classifier.score(texts[first::passes], EMBED_BATCH).embeddings, range(passes))
        vectors = np.empty((len(texts), classifier.hidden), np.float32)
        for first, part in enumerate(parts):
            vectors[first::passes] = part
        return vectors

    return Embedder(classifier.artifact.base_model, settings=settings, encode=encode)


def embeds_as_base(artifact: ClassifierConfig) -> bool:
    """Whether `Scores.embeddings` are those of sentence-transformers, for all tokens that it reads."""
    reads = base_models.sentence_length(base_models.resolve(artifact.base_model))
    is_head = artifact.method == "probe" and artifact.pooling == "mean"
    return is_head and reads is not None and artifact.max_length >= reads


def _runs_in_torch(settings: Settings) -> bool:
    if settings.inference != "auto":
        return settings.inference == "torch"
    if settings.device == "cpu" or not (settings.device == "cuda" or base_models.has_cuda_driver()):
        return False
    return base_models.device(settings) == "cuda"
