"""What the frozen base makes of the training texts: computed once, shared by several trainings.

Embeddings start the head; where the upper layers alone are adapted, the output of the layers below is kept, too.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from bankllm.datasets import Dataset
from bankllm.errors import UsageError
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training import cached_layers, distributed
from bankllm.training.config import TrainConfig

ENCODE_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Frozen:
    """The training texts as the frozen base embeds them; several trainings on one base and data set can share it."""

    vectors: np.ndarray
    """(n, hidden) float32, unit length."""
    seconds: float
    """What embedding them took."""
    made_from: tuple[str | None, str, str, int]
    """Base model's sha256, data set's name, pooling and max length: another training must have the same."""
    quantised: bool = False
    """The base was loaded in 4 bits."""
    top_layers: int | str | None = None
    below: list[torch.Tensor] | None = None
    """For each text the (tokens, hidden) input of the first of the top layers; None where all layers are adapted."""

    @property
    def nbytes(self) -> int:
        """What it holds in memory."""
        return self.vectors.nbytes + sum(hidden.nbytes for hidden in self.below or [])


def encode(
    classifier: IntentClassifier, config: TrainConfig, data: Dataset, progress: bool, frozen: Frozen | None
) -> Frozen:
    """Embed the training texts with the frozen base, or check that what was given is of the same making."""
    artefact, top_layers = classifier.artefact, config.top_layers if replays(config) else None
    made_from = (artefact.base_sha256, data.name, artefact.pooling, artefact.max_length)
    if frozen is not None:
        if frozen.made_from != made_from:
            raise UsageError(
                f"The frozen embeddings are of {frozen.made_from}, this training needs {made_from} (base model, data "
                "set, pooling, max_length). Leave `frozen` out, and they are computed."
            )
        if top_layers is None or (frozen.top_layers, frozen.quantised) == (top_layers, artefact.quantised):
            return frozen
    classifier.module.eval()
    keep_four_bits_trainable(classifier.module.body)
    texts, below = data.train.texts, None
    progress = progress and distributed.is_main()
    start = time.perf_counter()
    if top_layers is None:
        starts = tqdm(range(0, len(texts), ENCODE_ROWS), desc="embed", leave=False, disable=not progress)
        vectors = np.concatenate([distributed.score(classifier, texts[i : i + ENCODE_ROWS]).embeddings for i in starts])
    else:
        vectors, below = cached_layers.encode(classifier, texts, top_layers, progress)
    return Frozen(vectors, time.perf_counter() - start, made_from, artefact.quantised, top_layers, below)


def replays(config: TrainConfig) -> bool:
    """Several processes would each have to keep the whole: they run the frozen layers anew instead."""
    return config.adapts and config.top_layers is not None and distributed.world_size() == 1


def keep_four_bits_trainable(body: nn.Module) -> None:
    """On some CPUs a 4-bit layer in eval mode repacks its weights for inference, and has no gradient ever after."""
    for layer in body.modules():
        if isinstance(layer, nn.Linear) and hasattr(layer.weight, "quant_state"):
            layer.train()
