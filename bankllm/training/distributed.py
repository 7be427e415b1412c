"""Helpers for a training that `accelerate launch` runs in several processes.

Each process works on a part of the texts, and `transformers.Trainer` averages the gradients. In a single process the
functions have no effect: `score` calls the classifier directly.
"""

import os

import numpy as np

from bankllm.model.artifact import Scores
from bankllm.model.torch_classifier import IntentClassifier


def world_size() -> int:
    """Number of processes that train together, from `WORLD_SIZE`, which accelerate and torchrun set."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes files and prints (`RANK` 0)."""
    return int(os.environ.get("RANK", "0")) == 0


def connect(on_cpu: bool) -> None:
    """Connect this process to the other processes."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState(cpu=on_cpu)


def wait_for_everyone() -> None:
    """Block until every process has called this function."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def score(classifier: IntentClassifier, texts: tuple[str, ...]) -> Scores:
    """Run `classifier.score` with the texts distributed over the processes. Each process gets all n rows.

    With several processes the result has probabilities and embeddings only.
    """
    size = world_size()
    if size == 1:
        return classifier.score(texts)
    from accelerate.utils import gather_object

    rank = int(os.environ["RANK"])
    shares: list[Scores] = gather_object([classifier.score(texts[rank::size])])
    probabilities = np.empty((len(texts), shares[0].probabilities.shape[1]), dtype=np.float32)
    embeddings = np.empty((len(texts), shares[0].embeddings.shape[1]), dtype=np.float32)
    for first, share in enumerate(shares):
        probabilities[first::size], embeddings[first::size] = share.probabilities, share.embeddings
    return Scores(probabilities, embeddings)
