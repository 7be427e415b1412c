"""Run the frozen lower layers once per text, and train only the layers above them on the cached result.

The frozen lower layers are the *prefix*. The *prefix states* of a text are its hidden states, (tokens, hidden), at the
input of the first trained layer. The body must keep its transformer layers in one `nn.ModuleList`.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from bankllm.errors import UsageError
from bankllm.model.encoder import layer_list
from bankllm.model.torch_classifier import IntentClassifier

BATCH = 64
"""Texts per batch when embeddings are computed."""


@dataclass(frozen=True, eq=False)
class FrozenEmbeddings:
    """The training texts, embedded by the frozen base model."""

    vectors: np.ndarray
    """(n, hidden) float32, unit length."""
    prefix_states: list[Tensor]
    """One (tokens, hidden) tensor per text, on the CPU, for `first_trained`; none for layer 0."""
    first_trained: int
    seconds: float
    """Seconds that the computation took."""

    @property
    def nbytes(self) -> int:
        return self.vectors.nbytes + sum(hidden.nbytes for hidden in self.prefix_states)


FrozenCache = dict[tuple[object, ...], FrozenEmbeddings]
"""Frozen embeddings by base model, pooling and texts, for trainings that share them. Holds all of them in memory."""


def first_trained_layer(body: nn.Module) -> int:
    """Index of the lowest transformer layer with trainable weights; 0 if weights outside of the layers are trained."""
    trained = [weights for weights in body.parameters() if weights.requires_grad]
    try:
        _, layers = layer_list(body)
    except UsageError:
        return 0
    layer_of = {weights: number for number, layer in enumerate(layers) for weights in layer.parameters()}
    return min((layer_of.get(weights, 0) for weights in trained), default=0)


def embed_frozen(
    classifier: IntentClassifier, texts: tuple[str, ...], progress: bool, first_trained: int, cache: FrozenCache
) -> FrozenEmbeddings:
    """Embed texts with the frozen base model, or return the embeddings in `cache`. Stores what was computed there."""
    artifact = classifier.artifact
    key = (artifact.base_sha256, artifact.quantised, artifact.pooling, artifact.max_length, texts)
    found = cache.get(key)
    if found and first_trained in (0, found.first_trained):
        return found
    classifier.module.eval()
    keep_four_bits_trainable(classifier.module)
    without_adapter: Any = getattr(classifier.module.body, "disable_adapter", nullcontext)
    start = time.perf_counter()
    with without_adapter():
        vectors, states = embed(classifier, texts, progress, capture_at=first_trained)
    cache[key] = FrozenEmbeddings(vectors, states, first_trained, time.perf_counter() - start)
    return cache[key]


def embed(
    classifier: IntentClassifier,
    texts: tuple[str, ...],
    progress: bool,
    cached: "CachedPrefix | None" = None,
    capture_at: int = 0,
) -> tuple[np.ndarray, list[Tensor]]:
    """Return the (n, hidden) float32 embeddings, and the states at the input of layer `capture_at`; none for layer 0.

    The states are on the CPU. With `cached`, the prefix states of the same texts, only the upper layers run.
    """
    module, tokenizer, captured = classifier.module, classifier.tokenizer, list[Tensor]()
    tokens = tokenizer(list(texts), truncation=True, max_length=classifier.artifact.max_length)["input_ids"]
    order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))  # texts of similar length need little padding
    embeddings = np.empty((len(texts), module.head.in_features), dtype=np.float32)
    states: dict[int, Tensor] = {}
    hook: Any = nullcontext()
    if capture_at:
        hook = layer_list(module.body)[1][capture_at].register_forward_pre_hook(
            lambda layer, args, kwargs: captured.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
        )
    with hook, torch.inference_mode():
        for start in tqdm(range(0, len(order), BATCH), desc="embed", leave=False, disable=not progress):
            rows = order[start : start + BATCH]
            batch = tokenizer.pad({"input_ids": [tokens[i] for i in rows]}, return_tensors="pt").to(classifier.device)
            if cached:
                cached.select(rows)
            embeddings[rows] = module.embed(batch["input_ids"], batch["attention_mask"]).cpu().numpy()
            if capture_at:
                hidden, lengths = (captured.pop().cpu(), batch["attention_mask"].sum(dim=1).tolist())
                states |= {i: hidden[row, : lengths[row]].clone() for row, i in enumerate(rows)}
    return embeddings, [states[i] for i in range(len(texts)) if capture_at]


class CachedPrefix:
    """Inside a `with` block, the layers of a body below `first` return the cached input of layer `first`.

    `select` chooses the texts of the next forward passes. Without a selection or without states, the layers run.
    """

    def __init__(self, body: nn.Module, first: int, states: list[Tensor]) -> None:
        self._below: list[nn.Module] = [*layer_list(body)[1][:first]] if first else []
        self._states = states
        self._device = next(body.parameters()).device
        self._hidden: Tensor | None = None

    def __enter__(self) -> Self:
        for layer in self._below:
            layer.forward = partial(self._forward, layer.forward)
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self._below:
            del layer.forward  # the method of the class remains

    def select(self, rows: list[int]) -> None:
        states = [self._states[i] for i in rows if self._states]
        self._hidden = pad_sequence(states, batch_first=True).to(self._device) if states else None

    def _forward(self, run: Callable[..., Any], hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return run(hidden_states, *args, **kwargs) if self._hidden is None else self._hidden.to(hidden_states)


def keep_four_bits_trainable(body: nn.Module) -> None:
    """Keep the 4-bit layers in training mode, even when the body is in eval mode.

    On some CPUs a 4-bit layer in eval mode repacks its weights for inference, and can then no longer compute gradients.
    """
    for layer in body.modules():
        if isinstance(layer, nn.Linear) and hasattr(layer.weight, "quant_state"):
            layer.train()
