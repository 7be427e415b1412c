"""Compute what the frozen layers give for a text once, and train only what lies above them.

`embed_frozen` embeds the training texts with the frozen base; several trainings can share the result. Where only the
top layers are adapted, `encode_and_keep_inputs` also keeps the input of the first adapted layer, and
`FrozenPrefixModel` trains with these inputs in place of the lower layers. This works for any body that keeps its
transformer layers in one list, as the encoders and decoders of the Auto classes do.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import BatchEncoding
from transformers.modeling_outputs import SequenceClassifierOutput

from bankllm.datasets import Dataset
from bankllm.errors import UsageError
from bankllm.model.encoder import EncoderWithHead, layer_list
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training import distributed
from bankllm.training.config import TrainConfig

BATCH = 64
TopLayers = int | Literal["half"]


def first_adapted(body: nn.Module, top_layers: TopLayers) -> int:
    """Position of the first of the top layers. Raises `UsageError` where there are fewer layers."""
    _, layers = layer_list(body)
    if top_layers == "half":
        return len(layers) // 2
    if top_layers > len(layers):
        raise UsageError(f"top_layers={top_layers}, but the model has {len(layers)} layers. Set 1 to {len(layers)}.")
    return len(layers) - top_layers


def encode_and_keep_inputs(
    classifier: IntentClassifier, texts: tuple[str, ...], top_layers: TopLayers, progress: bool
) -> tuple[np.ndarray, list[Tensor]]:
    """Embeddings (n, hidden), and for each text the (tokens, hidden) input of the first of the top layers."""
    module = classifier.module
    _, layers = layer_list(module.body)
    caught: list[Tensor] = []
    hook = layers[first_adapted(module.body, top_layers)].register_forward_pre_hook(
        lambda layer, args, kwargs: caught.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    embeddings = np.empty((len(texts), module.head.in_features), dtype=np.float32)
    below: list[Tensor] = [torch.empty(0)] * len(texts)
    try:
        with torch.inference_mode():
            for rows, batch in _batches(classifier, texts, progress):
                embeddings[rows] = module.embed(batch["input_ids"], batch["attention_mask"]).cpu().numpy()
                hidden, lengths = caught.pop().cpu(), batch["attention_mask"].sum(dim=1).tolist()
                for row, (i, length) in enumerate(zip(rows, lengths, strict=True)):
                    below[i] = hidden[row, :length].clone()
    finally:
        hook.remove()
    return embeddings, below


def embed_above(
    classifier: IntentClassifier, texts: tuple[str, ...], top_layers: TopLayers, below: list[Tensor], progress: bool
) -> np.ndarray:
    """Embeddings (n, hidden) of the same texts by the adapted layers, from what `encode_and_keep_inputs` kept."""
    module = classifier.module
    embeddings = np.empty((len(texts), module.head.in_features), dtype=np.float32)
    with FrozenPrefixModel(module, top_layers) as replayed, torch.inference_mode():
        for rows, batch in _batches(classifier, texts, progress):
            replayed.replay.hidden = pad_sequence([below[i] for i in rows], batch_first=True).to(classifier.device)
            embeddings[rows] = module.embed(batch["input_ids"], batch["attention_mask"]).cpu().numpy()
    return embeddings


def _batches(
    classifier: IntentClassifier, texts: tuple[str, ...], progress: bool
) -> Iterator[tuple[list[int], BatchEncoding]]:
    """Texts of like lengths together: their positions and their tokens."""
    tokenizer = classifier.tokenizer
    tokens = tokenizer(list(texts), truncation=True, max_length=classifier.artifact.max_length)["input_ids"]
    order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
    for start in tqdm(range(0, len(order), BATCH), desc="embed", leave=False, disable=not progress):
        rows = order[start : start + BATCH]
        padded = tokenizer.pad({"input_ids": [tokens[i] for i in rows]}, return_tensors="pt")
        yield rows, padded.to(classifier.device)


class FrozenPrefixModel(nn.Module):
    """The classifier as it trains: the layers below the adapted ones give what was computed before.

    Use it as a context: inside, the body is short; on leaving it has all of its layers again.
    """

    def __init__(self, module: EncoderWithHead, top_layers: TopLayers) -> None:
        super().__init__()
        self.module = module
        name, layers = layer_list(module.body)
        parent, _, self._attribute = name.rpartition(".")
        self._parent = [module.body.get_submodule(parent)]  # in a list, so that it is not registered twice
        self._layers = [layers]
        self.replay = _CachedPrefix()
        self._short = [nn.ModuleList([self.replay, *layers[first_adapted(module.body, top_layers) :]])]

    def __enter__(self) -> "FrozenPrefixModel":
        setattr(self._parent[0], self._attribute, self._short[0])
        return self

    def __exit__(self, *error: object) -> None:
        setattr(self._parent[0], self._attribute, self._layers[0])

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The whole body for a while, to classify other texts."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, below: Tensor, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        self.replay.hidden = below
        return self.module(input_ids, attention_mask, labels)


class _CachedPrefix(nn.Module):
    """Stands where the lower layers stood."""

    hidden: Tensor

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.hidden.to(hidden_states.dtype)


class CachedPrefixCollator:
    """A collator that also pads each row's `below`, (tokens, hidden) → (n, longest, hidden)."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        below = pad_sequence([row["below"] for row in rows], batch_first=True)
        batch = self.collate([{key: value for key, value in row.items() if key != "below"} for row in rows])
        return {**batch, "below": below}


ENCODE_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Frozen:
    """The training texts as the frozen base embeds them; several trainings on one base and data set can share it."""

    vectors: np.ndarray
    """(n, hidden) float32, unit length."""
    seconds: float
    """What embedding them took."""
    fingerprint: tuple[str | None, str, str, int]
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


def embed_frozen(
    classifier: IntentClassifier, config: TrainConfig, data: Dataset, progress: bool, frozen: Frozen | None
) -> Frozen:
    """Embed the training texts with the frozen base, or check that what was given is of the same making."""
    artifact, top_layers = classifier.artifact, config.top_layers if replays(config) else None
    fingerprint = (artifact.base_sha256, data.name, artifact.pooling, artifact.max_length)
    if frozen is not None:
        if frozen.fingerprint != fingerprint:
            raise UsageError(
                f"The frozen embeddings are of {frozen.fingerprint}, this training needs {fingerprint} (base model, "
                "data set, pooling, max_length). Leave `frozen` out, and they are computed."
            )
        if top_layers is None or (frozen.top_layers, frozen.quantised) == (top_layers, artifact.quantised):
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
        vectors, below = encode_and_keep_inputs(classifier, texts, top_layers, progress)
    return Frozen(vectors, time.perf_counter() - start, fingerprint, artifact.quantised, top_layers, below)


def replays(config: TrainConfig) -> bool:
    """Several processes would each have to keep the whole: they run the frozen layers anew instead."""
    return config.adapts and config.top_layers is not None and distributed.world_size() == 1


def keep_four_bits_trainable(body: nn.Module) -> None:
    """On some CPUs a 4-bit layer in eval mode repacks its weights for inference, and has no gradient ever after."""
    for layer in body.modules():
        if isinstance(layer, nn.Linear) and hasattr(layer.weight, "quant_state"):
            layer.train()
