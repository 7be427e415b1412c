"""Load the served classifier in its inference runtime: an ONNX graph on a CPU, torch on a GPU (`BANKLLM_INFERENCE`)."""

import time
from collections.abc import Callable
from pathlib import Path

from bankllm.assistant.turn import Encoded
from bankllm.model import base_models
from bankllm.model.artifact import Classifier, ClassifierConfig, read_artifact
from bankllm.model.sentence_pooling import sentence_pooling
from bankllm.settings import Settings
from bankllm.util.processes import usable_cores
from bankllm.vectors.embedder import Embedder, encoder

DEFAULT_ADAPTER = Path(__file__).parents[1] / "data" / "assistant"
"""The packaged classifier: a linear head on the unchanged base model."""


def load_classifier(folder: Path, settings: Settings) -> tuple[Classifier, int]:
    """Load the classifier in `folder`, and return it with the number of passes that it can run in parallel.

    In ONNX Runtime each pass uses one thread: with more, every layer waits for its slowest thread. Raises `ModelError`
    if the folder contains no classifier, or if its base model is missing or is not the model that it was trained on.
    """
    threads = settings.encoder_threads or usable_cores()
    if base_models.runs_in_torch(settings):
        import torch

        from bankllm.model.torch_classifier import IntentClassifier

        # The tokenizer keeps state between calls, so only one pass can run at a time.
        torch.set_num_threads(threads)
        return IntentClassifier.load(folder), 1
    from bankllm.model.export import cached_export
    from bankllm.model.onnx_classifier import OnnxClassifier

    return OnnxClassifier.load(cached_export(folder, settings), threads=1), threads


def prepare(folder: Path, settings: Settings) -> None:
    """Export the ONNX graphs that a server needs before several workers start. Raises `ModelError`."""
    if not base_models.runs_in_torch(settings):
        from bankllm.model.export import cached_export

        cached_export(folder, settings)
        if not embeds_as_base(read_artifact(folder)):
            cached_export(Path(base_models.resolve().location), settings)


def memory_embedder(classifier: Classifier, settings: Settings) -> Embedder:
    """The embedder of a server's memory: the classifier if it embeds as its base model, else the graph of MiniLM."""
    if not embeds_as_base(classifier.artifact):
        return Embedder(settings=settings)
    return Embedder(classifier.artifact.base_model, settings=settings, encode=encoder(classifier))


def embeds_as_base(artifact: ClassifierConfig) -> bool:
    """Whether `Scores.embeddings` are those of sentence-transformers, for all tokens that it reads."""
    base = sentence_pooling(Path(base_models.resolve(artifact.base_model).location))
    if artifact.method != "probe" or base is None or base.max_length is None:
        return False
    return artifact.pooling == base.pooling and artifact.max_length >= base.max_length


def chat_encoder(classifier: Classifier, embedder: Embedder) -> Callable[[list[str]], list[Encoded]]:
    """Return the encoder pass of messages: one for intent and embedding, if the classifier embeds as the embedder."""
    base = f"@{(classifier.artifact.base_sha256 or '')[:12]}"
    shares_embedding = embeds_as_base(classifier.artifact) and embedder.model_id.endswith(base)

    def encode(messages: list[str]) -> list[Encoded]:
        began = time.perf_counter()
        scores = classifier.score(messages)
        vectors = scores.embeddings if shares_embedding else embedder.encode(messages)
        ended = time.perf_counter()
        return [
            Encoded(probabilities, vector, began, scores.tokenise_s, ended)
            for probabilities, vector in zip(scores.probabilities, vectors, strict=True)
        ]

    return encode


def model_name(artifact: ClassifierConfig) -> str:
    """For replies and metrics, e.g. `all-MiniLM-L6-v2+probe`. A base model in a folder is named without its path."""
    return f"{base_models.resolve(artifact.base_model).name}+{artifact.method}"
