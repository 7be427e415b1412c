"""What runs in torch: a transformer body, pooling to one unit-length embedding a text, and a head on it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import SequenceClassifierOutput

from bankllm.errors import UsageError
from bankllm.model.artifact import Pooling


class KernelHead(nn.Module):
    """Weighs the classes of known texts by how like them a text is: Σ weight · exp(−gamma ‖embedding − landmark‖²).

    Fitted in closed form (see `training.head`), never by gradients, so its numbers are buffers. They are rounded to
    half precision, in which they are saved.
    """

    landmarks: Tensor
    """(m, hidden) unit-length embeddings of known texts."""
    weight: Tensor
    """(classes, m)"""
    bias: Tensor
    """(classes,)"""

    def __init__(self, landmarks: Tensor, weight: Tensor, bias: Tensor, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        for name, values in (("landmarks", landmarks), ("weight", weight), ("bias", bias)):
            self.register_buffer(name, values.half().float())

    @property
    def in_features(self) -> int:
        return self.landmarks.shape[1]

    def forward(self, embeddings: Tensor) -> Tensor:
        """(n, hidden) unit-length embeddings → (n, classes)."""
        likeness = torch.exp(2 * self.gamma * (embeddings @ self.landmarks.T - 1))
        return functional.linear(likeness, self.weight, self.bias)


class EncoderWithHead(nn.Module):
    """Body → pooled, unit-length embedding → `logit_scale` × head."""

    def __init__(self, body: nn.Module, classes: int, pooling: Pooling, logit_scale: float) -> None:
        super().__init__()
        self.body = body
        hidden: int = body.config.hidden_size  # type: ignore[union-attr,assignment]
        self.head: nn.Linear | KernelHead = nn.Linear(hidden, classes)
        self.pooling: Pooling = pooling
        self.logit_scale = logit_scale

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, tokens) ids and mask → (n, hidden) unit-length embeddings."""
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.pool(hidden, attention_mask)

    def pool(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, tokens, hidden) last hidden states → (n, hidden) unit-length embeddings."""
        return functional.normalize(pool(hidden, attention_mask, self.pooling).float(), dim=-1)

    def classify(self, embeddings: Tensor) -> Tensor:
        """(n, hidden) embeddings → (n, classes) logits."""
        if isinstance(self.head, KernelHead):
            return self.logit_scale * self.head(embeddings)
        return functional.linear(self.logit_scale * embeddings, self.head.weight, self.head.bias)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        logits = self.classify(self.embed(input_ids, attention_mask))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def pool(hidden: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """(n, tokens, hidden) → (n, hidden): mean over the real tokens, the first token, or the last real one."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        positions = torch.arange(attention_mask.shape[1], device=hidden.device)
        last = (attention_mask * positions).argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def layer_list(body: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and list of the transformer layers: the longest list of modules that the body has."""
    lists = [(name, module) for name, module in body.named_modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise UsageError("This model keeps no list of layers, so top_layers cannot be told apart. Leave it out.")
    return max(lists, key=lambda item: len(item[1]))


class PlainUpperLayers:
    """What the plain base model makes of a text, beside an adapter on its upper layers, in one pass of the lower ones.

    Make it of the body before the adapter is merged into it: it keeps the layers from `first` on as they are then.
    """

    def __init__(self, body: nn.Module, first: int) -> None:
        self._first = first
        self.layers = copy.deepcopy(layer_list(body)[1][first:])
        self._entered: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def hidden(self, body: nn.Module, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(n, tokens, hidden) last hidden states of the body for these inputs, and of the plain base."""
        hook = layer_list(body)[1][self._first].register_forward_pre_hook(self._enter, with_kwargs=True)
        try:
            adapted = body(**inputs).last_hidden_state
        finally:
            hook.remove()
        (hidden, *args), kwargs = self._entered
        for layer in self.layers:
            output = layer(hidden, *args, **kwargs)
            hidden = output[0] if isinstance(output, tuple) else output
        return adapted, hidden

    def fits(self, body: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> bool:
        """Whether the layers kept give what the unadapted body gives: not where something follows the last layer."""
        expected, found = self.hidden(body, input_ids=input_ids, attention_mask=attention_mask)
        return torch.allclose(expected, found, atol=1e-5)

    def _enter(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not args:
            kwargs = dict(kwargs)
            args = (kwargs.pop("hidden_states"),)
        self._entered = (args, kwargs)
