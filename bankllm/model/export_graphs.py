"""The classifier's forward pass in the two forms that are exported: texts padded to one length, or packed.

Packed, the texts lie one behind the other in a single row, and each token looks at its own text's alone. Nothing is
computed for padding: random queries are half as long as the longest of eight.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bankllm.model.torch_classifier import IntentClassifier

Packed = tuple[Tensor, Tensor, Tensor, Tensor]
"""(1, t) token ids, (1, t) positions, (t) which text a token is of, (n) tokens of each text."""


class _Graph(nn.Module):
    def __init__(self, classifier: IntentClassifier) -> None:
        super().__init__()
        self.module = classifier.module.float().cpu()
        self._plain = classifier.plain
        # Registered here, so that their weights are the graph's constants.
        self.layers = classifier.plain.layers.float().cpu() if classifier.plain else None
        _spread_norms(self)
        # Fused attention is exported with a guard against rows that see nothing, which costs a tenth of the time.
        for part in self.modules():
            config: Any = getattr(part, "config", None)
            if hasattr(config, "_attn_implementation"):
                config._attn_implementation = "eager"

    def _hidden(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        """Last hidden states, and the plain base's where they come with them."""
        if self._plain is not None:
            return self._plain.hidden(self.module.body, **inputs)
        return (self.module.body(**inputs).last_hidden_state,)


class SpreadNorm(nn.Module):
    """Layer normalisation over the last dimension, in steps that ONNX Runtime has vectorised.

    Its own operator goes number by number on a CPU and takes three times as long: 9 % of a pass of MiniLM.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, size) → (…, size)"""
        centred = hidden - hidden.mean(dim=-1, keepdim=True)
        # Not a power of two: ONNX Runtime would know the steps again and put its operator in their place.
        spread = torch.sqrt((centred * centred).mean(dim=-1, keepdim=True) + self.eps)
        return centred / spread * self.weight + self.bias


def _spread_norms(module: nn.Module) -> None:
    for name, part in module.named_children():
        if isinstance(part, nn.LayerNorm) and len(part.normalized_shape) == 1 and part.bias is not None:
            setattr(module, name, SpreadNorm(part))
        else:
            _spread_norms(part)


class PaddedGraph(_Graph):
    """(n, t) ids and mask → (n, classes) logits, (n, hidden) embeddings, and the plain base's if there are any."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        states = self._hidden(input_ids=input_ids, attention_mask=attention_mask)
        embeddings = [self.module.pool(hidden, attention_mask) for hidden in states]
        return self.module.classify(embeddings[0]), *embeddings


class PackedGraph(_Graph):
    """The same of `Packed` texts, for a model that takes positions and pools by the mean."""

    def forward(self, input_ids: Tensor, position_ids: Tensor, segments: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        own = segments[:, None] == segments[None, :]
        mask = torch.where(own, 0.0, torch.finfo(torch.float32).min)[None, None]
        states = self._hidden(input_ids=input_ids, position_ids=position_ids, attention_mask=mask)
        of_text = torch.arange(lengths.shape[0], device=segments.device)[:, None] == segments[None, :]
        means = [of_text.to(hidden.dtype) @ hidden[0] / lengths[:, None] for hidden in states]
        embeddings = [nn.functional.normalize(mean, dim=-1) for mean in means]
        return self.module.classify(embeddings[0]), *embeddings

    def gives(self, expected: tuple[Tensor, ...], *packed: Tensor) -> bool:
        """Whether the outputs are these: not where the model counts positions in a way of its own, or takes none."""
        try:
            with torch.inference_mode():
                found = self(*packed)
        except (TypeError, ValueError, RuntimeError):
            return False
        return all(torch.allclose(*pair, atol=1e-4) for pair in zip(expected, found, strict=True))


def pack(input_ids: Tensor, attention_mask: Tensor) -> Packed:
    """Padded texts, packed."""
    lengths = attention_mask.sum(dim=1)
    real = attention_mask.bool()
    positions = torch.arange(input_ids.shape[1]).expand_as(input_ids)[real]
    segments = torch.arange(len(lengths)).repeat_interleave(lengths)
    return input_ids[real][None], positions[None], segments, lengths
