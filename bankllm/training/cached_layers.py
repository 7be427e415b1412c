"""Run the frozen lower layers once per text, and train only the layers above them on the cached result.

The frozen lower layers are the *prefix*. The *prefix states* of a text are its hidden states, (tokens, hidden), at
the input of the first adapted layer. They never change during training, so they are computed once and reused in every
epoch.

- `embed_frozen` embeds the training texts with the frozen base model. Several trainings can share the result.
- `embed_and_cache_prefix` also returns the prefix states. It is used when only the top layers are adapted.
- `FrozenPrefixModel` trains with the prefix states as input instead of running the lower layers.

This works for every body that keeps its transformer layers in one `nn.ModuleList`, as the encoders and decoders of
the Auto classes do.
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
"""Texts per batch when embeddings and prefix states are computed."""
TopLayers = int | Literal["half"]


def first_adapted(body: nn.Module, top_layers: TopLayers) -> int:
    """Return the index of the first adapted layer. Raises `UsageError` if the body has fewer than `top_layers`."""
    _, layers = layer_list(body)
    if top_layers == "half":
        return len(layers) // 2
    if top_layers > len(layers):
        raise UsageError(
            f"top_layers={top_layers}, but the model has {len(layers)} layers. Set top_layers to a number from 1 to "
            f"{len(layers)}."
        )
    return len(layers) - top_layers


def embed_and_cache_prefix(
    classifier: IntentClassifier, texts: tuple[str, ...], top_layers: TopLayers, progress: bool
) -> tuple[np.ndarray, list[Tensor]]:
    """Return the embeddings, (n, hidden) float32, and the prefix states of each text, (tokens, hidden) on the CPU."""
    module = classifier.module
    _, layers = layer_list(module.body)
    captured: list[Tensor] = []
    hook = layers[first_adapted(module.body, top_layers)].register_forward_pre_hook(
        lambda layer, args, kwargs: captured.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    embeddings = np.empty((len(texts), module.head.in_features), dtype=np.float32)
    prefix_states: list[Tensor] = [torch.empty(0)] * len(texts)
    try:
        with torch.inference_mode():
            for rows, batch in _batches(classifier, texts, progress):
                embeddings[rows] = module.embed(batch["input_ids"], batch["attention_mask"]).cpu().numpy()
                hidden, lengths = captured.pop().cpu(), batch["attention_mask"].sum(dim=1).tolist()
                for row, (i, length) in enumerate(zip(rows, lengths, strict=True)):
                    prefix_states[i] = hidden[row, :length].clone()
    finally:
        hook.remove()
    return embeddings, prefix_states


def embed_from_prefix(
    classifier: IntentClassifier,
    texts: tuple[str, ...],
    top_layers: TopLayers,
    prefix_states: list[Tensor],
    progress: bool,
) -> np.ndarray:
    """Return embeddings, (n, hidden) float32, from the adapted top layers.

    `prefix_states` are those of the same texts, as `embed_and_cache_prefix` returns them.
    """
    module = classifier.module
    embeddings = np.empty((len(texts), module.head.in_features), dtype=np.float32)
    with FrozenPrefixModel(module, top_layers) as model, torch.inference_mode():
        for rows, batch in _batches(classifier, texts, progress):
            padded = pad_sequence([prefix_states[i] for i in rows], batch_first=True)
            model.cached_prefix.hidden = padded.to(classifier.device)
            embeddings[rows] = module.embed(batch["input_ids"], batch["attention_mask"]).cpu().numpy()
    return embeddings


def _batches(
    classifier: IntentClassifier, texts: tuple[str, ...], progress: bool
) -> Iterator[tuple[list[int], BatchEncoding]]:
    """Yield (positions in `texts`, padded tokens) per batch. A batch holds texts of similar length."""
    tokenizer = classifier.tokenizer
    tokens = tokenizer(list(texts), truncation=True, max_length=classifier.artifact.max_length)["input_ids"]
    order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
    for start in tqdm(range(0, len(order), BATCH), desc="embed", leave=False, disable=not progress):
        rows = order[start : start + BATCH]
        padded = tokenizer.pad({"input_ids": [tokens[i] for i in rows]}, return_tensors="pt")
        yield rows, padded.to(classifier.device)


class FrozenPrefixModel(nn.Module):
    """The classifier without its frozen lower layers: cached prefix states replace their output.

    Use it as a context manager. Inside the context the body contains only the adapted layers. When the context ends,
    the body has all of its layers again.
    """

    def __init__(self, module: EncoderWithHead, top_layers: TopLayers) -> None:
        super().__init__()
        self.module = module
        name, layers = layer_list(module.body)
        parent, _, self._attribute = name.rpartition(".")
        self._parent = [module.body.get_submodule(parent)]  # in a list, so that torch does not register it twice
        self._layers = [layers]
        self.cached_prefix = _CachedPrefix()
        self._short = [nn.ModuleList([self.cached_prefix, *layers[first_adapted(module.body, top_layers) :]])]

    def __enter__(self) -> "FrozenPrefixModel":
        setattr(self._parent[0], self._attribute, self._short[0])
        return self

    def __exit__(self, *error: object) -> None:
        setattr(self._parent[0], self._attribute, self._layers[0])

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Restore the full body inside this context, to classify texts that have no cached prefix states."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, prefix_states: Tensor, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Run the adapted layers on `prefix_states`, (n, tokens, hidden). Ids and mask have shape (n, tokens)."""
        self.cached_prefix.hidden = prefix_states
        return self.module(input_ids, attention_mask, labels)


class _CachedPrefix(nn.Module):
    """A layer that ignores its input and returns the cached prefix states. It replaces the frozen lower layers."""

    hidden: Tensor

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.hidden.to(hidden_states.dtype)


class CachedPrefixCollator:
    """A data collator that also pads the `prefix_states` of each row, (tokens, hidden) → (n, longest, hidden)."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        prefix_states = pad_sequence([row["prefix_states"] for row in rows], batch_first=True)
        batch = self.collate([{key: value for key, value in row.items() if key != "prefix_states"} for row in rows])
        return {**batch, "prefix_states": prefix_states}


ENCODE_ROWS = 1024
"""Texts per step of the progress bar when only embeddings are computed."""


@dataclass(frozen=True, eq=False)
class FrozenEmbeddings:
    """The training texts embedded by the frozen base model. Trainings on the same base and data can share them."""

    vectors: np.ndarray
    """(n, hidden) float32, unit length."""
    seconds: float
    """Time that the computation took, in seconds."""
    fingerprint: tuple[str | None, str, str, int]
    """sha256 of the base model, name of the data set, pooling and `max_length`. A training can use these embeddings
    only if its own fingerprint is equal."""
    quantised: bool = False
    """True if the base was loaded in 4 bits."""
    top_layers: int | str | None = None
    """`TrainConfig.top_layers` for which the prefix states were computed; None if there are none."""
    prefix_states: list[torch.Tensor] | None = None
    """For each text the (tokens, hidden) input of the first adapted layer; None if all layers are adapted."""

    @property
    def nbytes(self) -> int:
        """Memory of vectors and prefix states in bytes."""
        return self.vectors.nbytes + sum(hidden.nbytes for hidden in self.prefix_states or [])


def embed_frozen(
    classifier: IntentClassifier, config: TrainConfig, data: Dataset, progress: bool, frozen: FrozenEmbeddings | None
) -> FrozenEmbeddings:
    """Embed the training texts with the frozen base model, or return `frozen` if it can be used for this training.

    `frozen` is not enough if this training needs prefix states and `frozen` holds none, or holds those of other
    layers or of another precision. Then the embeddings are computed again.
    Raises `UsageError` if `frozen` comes from another base model, data set, pooling or `max_length`.
    """
    artifact, top_layers = classifier.artifact, config.top_layers if uses_cached_prefix(config) else None
    fingerprint = (artifact.base_sha256, data.name, artifact.pooling, artifact.max_length)
    if frozen is not None:
        if frozen.fingerprint != fingerprint:
            raise UsageError(
                f"The frozen embeddings are of {frozen.fingerprint}, but this training needs {fingerprint} (base "
                "model, data set, pooling, max_length). Omit `frozen` to compute the embeddings again."
            )
        if top_layers is None or (frozen.top_layers, frozen.quantised) == (top_layers, artifact.quantised):
            return frozen
    classifier.module.eval()
    keep_four_bits_trainable(classifier.module.body)
    texts, prefix_states = data.train.texts, None
    progress = progress and distributed.is_main()
    start = time.perf_counter()
    if top_layers is None:
        starts = tqdm(range(0, len(texts), ENCODE_ROWS), desc="embed", leave=False, disable=not progress)
        vectors = np.concatenate([distributed.score(classifier, texts[i : i + ENCODE_ROWS]).embeddings for i in starts])
    else:
        vectors, prefix_states = embed_and_cache_prefix(classifier, texts, top_layers, progress)
    seconds = time.perf_counter() - start
    return FrozenEmbeddings(vectors, seconds, fingerprint, artifact.quantised, top_layers, prefix_states)


def uses_cached_prefix(config: TrainConfig) -> bool:
    """Whether the training reuses cached prefix states.

    With several processes it does not: each process would have to keep the prefix states of all texts in memory. Each
    process runs the frozen layers in every epoch instead.
    """
    return config.adapts and config.top_layers is not None and distributed.world_size() == 1


def keep_four_bits_trainable(body: nn.Module) -> None:
    """Keep the 4-bit layers in training mode, even when the body is in eval mode.

    On some CPUs a 4-bit layer in eval mode repacks its weights for inference, and can then no longer compute gradients.
    """
    for layer in body.modules():
        if isinstance(layer, nn.Linear) and hasattr(layer.weight, "quant_state"):
            layer.train()
