"""Adapt the top layers alone: what the frozen layers below give for a text never changes, so compute it once.

`encode` passes all texts through the frozen body and keeps, beside the embeddings, the input of the first adapted
layer; `Replayed` then trains with those in place of the lower layers. Works for any body that keeps its transformer
layers in one list, which is how the Auto classes build encoders and decoders alike.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import BatchEncoding
from transformers.modeling_outputs import SequenceClassifierOutput

from bankllm.errors import UsageError
from bankllm.model.encoder import EncoderWithHead, layer_list
from bankllm.model.torch_classifier import IntentClassifier

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


def encode(
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
    """Embeddings (n, hidden) of the same texts by the adapted layers, from what `encode` kept."""
    module = classifier.module
    embeddings = np.empty((len(texts), module.head.in_features), dtype=np.float32)
    with Replayed(module, top_layers) as replayed, torch.inference_mode():
        for rows, batch in _batches(classifier, texts, progress):
            replayed.replay.hidden = pad_sequence([below[i] for i in rows], batch_first=True).to(classifier.device)
            embeddings[rows] = module.embed(batch["input_ids"], batch["attention_mask"]).cpu().numpy()
    return embeddings


def _batches(
    classifier: IntentClassifier, texts: tuple[str, ...], progress: bool
) -> Iterator[tuple[list[int], BatchEncoding]]:
    """Texts of like lengths together: their positions and their tokens."""
    tokenizer = classifier.tokenizer
    tokens = tokenizer(list(texts), truncation=True, max_length=classifier.artefact.max_length)["input_ids"]
    order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
    for start in tqdm(range(0, len(order), BATCH), desc="embed", leave=False, disable=not progress):
        rows = order[start : start + BATCH]
        padded = tokenizer.pad({"input_ids": [tokens[i] for i in rows]}, return_tensors="pt")
        yield rows, padded.to(classifier.device)


class Replayed(nn.Module):
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
        self.replay = _Replay()
        self._short = [nn.ModuleList([self.replay, *layers[first_adapted(module.body, top_layers) :]])]

    def __enter__(self) -> "Replayed":
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


class _Replay(nn.Module):
    """Stands where the lower layers stood."""

    hidden: Tensor

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.hidden.to(hidden_states.dtype)


class WithBelow:
    """A collator that also pads each row's `below`, (tokens, hidden) → (n, longest, hidden)."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        below = pad_sequence([row["below"] for row in rows], batch_first=True)
        batch = self.collate([{key: value for key, value in row.items() if key != "below"} for row in rows])
        return {**batch, "below": below}
