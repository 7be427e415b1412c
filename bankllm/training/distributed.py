"""The few things that change when `accelerate launch` starts several processes of one training.

Each process takes its share of the texts; `transformers.Trainer` averages the gradients. In a single process
everything here is a plain pass-through.
"""

import os

import numpy as np

from bankllm.model.artifact import Scores
from bankllm.model.torch_classifier import IntentClassifier


def world_size() -> int:
    """How many processes train together; accelerate and torchrun say so in the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def connect(on_cpu: bool) -> None:
    """Join the other processes."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState(cpu=on_cpu)


def wait_for_everyone() -> None:
    """Return when every process got here."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def score(classifier: IntentClassifier, texts: tuple[str, ...]) -> Scores:
    """`classifier.score`, each process doing its share; all of them get the whole."""
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
