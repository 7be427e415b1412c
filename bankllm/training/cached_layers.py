"""Run the frozen lower layers once per text, and train only the layers above them on the cached result.

The frozen lower layers are the *prefix*. The *prefix states* of a text are its hidden states, (tokens, hidden), at the
input of the first trained layer. The body must keep its transformer layers in one `nn.ModuleList`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import BatchEncoding

from bankllm.datasets import Dataset
from bankllm.errors import UsageError
from bankllm.model.encoder import layer_list
from bankllm.model.torch_classifier import IntentClassifier

BATCH = 64
"""Texts per batch when embeddings are computed."""


@dataclass(frozen=True, eq=False)
class FrozenEmbeddings:
    """The training texts embedded by the frozen base model. Trainings on the same base and data can share them."""

    vectors: np.ndarray
    """(n, hidden) float32, unit length."""
    seconds: float
    """Seconds that the computation took."""
    fingerprint: tuple[str | None, str, str, int]
    """sha256 of the base model, name of the data set, pooling and `max_length`."""
    prefix_of: tuple[int, bool]
    """Layer at whose input the prefix states were captured (0: none), and whether the base was in 4 bits."""
    prefix_states: list[Tensor] | None
    """One (tokens, hidden) tensor per text, on the CPU."""

    @property
    def nbytes(self) -> int:
        """Memory of vectors and prefix states in bytes."""
        return self.vectors.nbytes + sum(hidden.nbytes for hidden in self.prefix_states or [])


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
    classifier: IntentClassifier, data: Dataset, first_trained: int, progress: bool, frozen: FrozenEmbeddings | None
) -> FrozenEmbeddings:
    """Embed the training texts with the frozen base model, or return `frozen` if it can be used for this training.

    With `first_trained` > 0, also capture the prefix states. `frozen` is used only if it holds the same ones.
    Raises `UsageError` if `frozen` comes from another base model, data set, pooling or `max_length`.
    """
    artifact, body = classifier.artifact, classifier.module.body
    prefix_of = (first_trained, artifact.quantised)
    fingerprint = (artifact.base_sha256, data.name, artifact.pooling, artifact.max_length)
    if frozen is not None and frozen.fingerprint != fingerprint:
        raise UsageError(
            f"The frozen embeddings are of {frozen.fingerprint}, but this training needs {fingerprint} (base model, "
            "data set, pooling, max_length). Omit `frozen` to compute the embeddings again."
        )
    if frozen is not None and (not first_trained or frozen.prefix_of == prefix_of):
        return frozen
    classifier.module.eval()
    keep_four_bits_trainable(body)
    start = time.perf_counter()
    without_adapter: Any = getattr(body, "disable_adapter", nullcontext)
    with without_adapter():
        vectors, prefix_states = embed(classifier, data.train.texts, progress, capture_at=first_trained)
    return FrozenEmbeddings(vectors, time.perf_counter() - start, fingerprint, prefix_of, prefix_states)


def embed(
    classifier: IntentClassifier,
    texts: tuple[str, ...],
    progress: bool,
    *,
    cached: "CachedPrefix | None" = None,
    capture_at: int = 0,
) -> tuple[np.ndarray, list[Tensor] | None]:
    """Return the embeddings, (n, hidden) float32, and the states at the input of layer `capture_at`; None for layer 0.

    With `cached`, which holds the prefix states of the same texts, only the upper layers run.
    """
    module, captured = classifier.module, list[Tensor]()
    embeddings = np.empty((len(texts), module.head.in_features), dtype=np.float32)
    states: dict[int, Tensor] = {}
    hook: Any = nullcontext()
    if capture_at:
        hook = layer_list(module.body)[1][capture_at].register_forward_pre_hook(
            lambda layer, args, kwargs: captured.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
        )
    with hook, torch.inference_mode():
        for rows, batch in _batches(classifier, texts, progress):
            if cached:
                cached.select(rows)
            embeddings[rows] = module.embed(batch["input_ids"], batch["attention_mask"]).cpu().numpy()
            if capture_at:
                hidden, lengths = (captured.pop().cpu(), batch["attention_mask"].sum(dim=1).tolist())
                states |= {i: hidden[row, : lengths[row]].clone() for row, i in enumerate(rows)}
    return embeddings, [states[i] for i in range(len(texts))] if capture_at else None


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


class CachedPrefix:
    """Inside a `with` block, the layers of a body below `first` return the cached input of layer `first`.

    `select` chooses the texts of the next forward pass. Without a selection, the layers run.
    """

    def __init__(self, body: nn.Module, first: int, states: list[Tensor]) -> None:
        self._below, self._states = layer_list(body)[1][:first], states
        self._device = next(body.parameters()).device
        self._hidden: Tensor | None = None

    def __enter__(self) -> Self:
        for layer in self._below:
            layer.forward = partial(self._forward, layer.forward)
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self._below:
            del layer.forward  # the method of the class remains

    def select(self, rows: list[int] | None) -> None:
        """Use the states of these texts in the next forward pass; None runs the layers."""
        states = [self._states[i] for i in rows or ()]
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
