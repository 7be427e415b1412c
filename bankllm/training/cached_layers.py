"""Run the frozen lower layers once per text, and train only the layers above them on the cached result.

The frozen lower layers are the *prefix*. The *prefix states* of a text are its hidden states, (tokens, hidden), at the
output of the prefix. The body must keep its transformer layers in one `nn.ModuleList`.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from bankllm.datasets import Split
from bankllm.errors import UsageError
from bankllm.model.encoder import layer_list
from bankllm.model.torch_classifier import IntentClassifier

PrefixStates = dict[tuple[int, ...], Tensor]
"""Token ids of a text → its prefix states, on the CPU."""


@dataclass(eq=False)
class FrozenEmbeddings:
    """The training texts, embedded by the frozen base model."""

    vectors: np.ndarray
    """(n, hidden) float32, unit length."""
    seconds: float
    """Seconds that the computation took."""
    probe: tuple[np.ndarray, np.ndarray] | None = None
    """(classes, hidden) weights and (classes,) biases of the logistic regression on the vectors, once it is fitted."""
    probe_seconds: float = 0.0


@dataclass(eq=False)
class FrozenCache:
    """What trainings share because the base model is frozen. Holds all of it in memory."""

    embeddings: dict[tuple[object, ...], FrozenEmbeddings] = field(default_factory=dict)
    """By base model, number of layers in the prefix, pooling, texts and labels."""
    states: dict[tuple[str | None, bool, int], PrefixStates] = field(default_factory=dict)
    """By base model and number of layers in the prefix."""

    def prefix(self, classifier: IntentClassifier) -> tuple[int, PrefixStates]:
        """Return the layers of a classifier's prefix, and its states: those of another training if they are usable."""
        artifact, body = classifier.artifact, classifier.module.body
        base, most = [artifact.base_sha256, artifact.quantised], prefix_layers(body)
        usable = [layers for (*model, layers) in self.states if model == base and layers <= most]
        trained = any(weights.requires_grad for weights in body.parameters())
        layers = max(usable, default=most if trained else 0)  # a body that is not trained embeds each text only once
        return layers, self.states.setdefault((artifact.base_sha256, artifact.quantised, layers), {}) if layers else {}


def prefix_layers(body: nn.Module) -> int:
    """Number of transformer layers below all trainable weights; 0 if weights outside of the layers are trained."""
    trained = [weights for weights in body.parameters() if weights.requires_grad]
    try:
        _, layers = layer_list(body)
    except UsageError:
        return 0
    layer_of = {weights: number for number, layer in enumerate(layers) for weights in layer.parameters()}
    return min((layer_of.get(weights, 0) for weights in trained), default=len(layers))


def embed_frozen(
    classifier: IntentClassifier, split: Split, progress: bool, layers: int, cache: FrozenCache
) -> FrozenEmbeddings:
    """Embed texts with the frozen base model, or return the embeddings in `cache`. Stores what was computed there.

    Inside the `CachedPrefix` of the first `layers` layers, it also computes the prefix states of all texts.
    """
    artifact = classifier.artifact
    key = (artifact.base_sha256, artifact.quantised, artifact.pooling, artifact.max_length, layers, split)
    if key not in cache.embeddings:
        classifier.module.eval()
        keep_four_bits_trainable(classifier.module)
        without_adapter: Any = getattr(classifier.module.body, "disable_adapter", nullcontext)
        start = time.perf_counter()
        with without_adapter():
            vectors = classifier.score(split.texts, progress=progress).embeddings
        cache.embeddings[key] = FrozenEmbeddings(vectors, time.perf_counter() - start)
    return cache.embeddings[key]


class CachedPrefix:
    """Inside a `with` block, the first `layers` layers of a body run only for texts without states in `states`.

    The body must be called with the keywords `input_ids` and `attention_mask`, padded on the right.
    """

    def __init__(self, body: nn.Module, layers: int, states: PrefixStates) -> None:
        self._body, self._states = body, states
        self._prefix: list[nn.Module] = [*layer_list(body)[1][:layers]] if layers else []
        self._texts: list[tuple[int, ...]] = []
        self._hidden: Tensor | None = None

    def __enter__(self) -> Self:
        self._hook = self._body.register_forward_pre_hook(self._look_up, with_kwargs=True)
        for layer in self._prefix:
            layer.forward = partial(self._forward, layer.forward, layer is self._prefix[-1])
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()
        for layer in self._prefix:
            del layer.forward  # the method of the class remains

    def _look_up(self, body: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        ids, lengths = kwargs["input_ids"].tolist(), kwargs["attention_mask"].sum(dim=1).tolist()
        self._texts = [tuple(row[:length]) for row, length in zip(ids, lengths, strict=True)]
        found = [self._states[text] for text in self._texts if text in self._states]
        self._hidden = pad_sequence(found, batch_first=True) if self._prefix and len(found) == len(ids) else None

    def _forward(self, run: Callable[..., Any], last: bool, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self._hidden is not None:
            return self._hidden.to(hidden_states) if last else hidden_states
        output = run(hidden_states, *args, **kwargs)
        if last:
            for text, hidden in zip(self._texts, output.detach().cpu(), strict=True):
                self._states[text] = hidden[: len(text)].clone()
        return output


def keep_four_bits_trainable(body: nn.Module) -> None:
    """Keep the 4-bit layers in training mode, even when the body is in eval mode.

    On some CPUs a 4-bit layer in eval mode repacks its weights for inference, and can then no longer compute gradients.
    """
    for layer in body.modules():
        if isinstance(layer, nn.Linear) and hasattr(layer.weight, "quant_state"):
            layer.train()
