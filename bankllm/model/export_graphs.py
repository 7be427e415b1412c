"""The forward pass of the classifier in the two forms that are exported to ONNX: padded and packed texts.

Packed texts are concatenated into one row of tokens, and an attention mask restricts each token to its own text.
Padding would take about half of the computation: of eight random queries, one is half as long as the longest.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bankllm.model.torch_classifier import IntentClassifier


class _Graph(nn.Module):
    """The classifier in fp32 on the CPU, with its modules prepared for the export."""

    def __init__(self, classifier: IntentClassifier) -> None:
        super().__init__()
        self.module = classifier.module.float().cpu()
        self.eval()
        for parent in list(self.modules()):
            for name, part in list(parent.named_children()):
                if isinstance(part, nn.LayerNorm) and len(part.normalized_shape) == 1 and part.bias is not None:
                    setattr(parent, name, DecomposedLayerNorm(part))
            # The exporter adds a guard against fully masked rows to fused attention, which takes a tenth of the time.
            config: Any = getattr(parent, "config", None)
            if hasattr(config, "_attn_implementation"):
                config._attn_implementation = "eager"


class DecomposedLayerNorm(nn.Module):
    """Layer normalisation over the last dimension, as separate operations.

    ONNX Runtime does not vectorise its LayerNormalization operator on a CPU, which then takes 9 % of a pass of MiniLM.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, hidden: Tensor) -> Tensor:
        centred = hidden - hidden.mean(dim=-1, keepdim=True)
        # A product, because ONNX Runtime would recognise a power and fuse the operations into its own operator.
        deviation = torch.sqrt((centred * centred).mean(dim=-1, keepdim=True) + self.eps)
        return centred / deviation * self.weight + self.bias


class PaddedGraph(_Graph):
    """(n, t) ids and mask → (n, classes) logits, (n, hidden) embeddings."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        embeddings = self.module.embed(input_ids, attention_mask)
        return self.module.classify(embeddings), embeddings


class PackedGraph(_Graph):
    """What `pack` returns → the same outputs as `PaddedGraph`, for a body with position ids and mean pooling."""

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, segments: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        same_text = segments[:, None] == segments[None, :]
        mask = torch.where(same_text, 0.0, torch.finfo(torch.float32).min)[None, None]
        hidden = self.module.body(input_ids=input_ids, position_ids=position_ids, attention_mask=mask).last_hidden_state
        of_text = torch.arange(lengths.shape[0], device=segments.device)[:, None] == segments[None, :]
        embeddings = nn.functional.normalize(of_text.to(hidden.dtype) @ hidden[0] / lengths[:, None], dim=-1)
        return self.module.classify(embeddings), embeddings

    @torch.inference_mode()
    def matches(self, padded: PaddedGraph, input_ids: Tensor, attention_mask: Tensor) -> bool:
        """Whether both graphs give the same outputs. A body that computes positions itself does not."""
        try:
            found = self(*pack(input_ids, attention_mask))
        except (TypeError, ValueError, RuntimeError):
            return False
        expected = padded(input_ids, attention_mask)
        return all(torch.allclose(*pair, atol=1e-4) for pair in zip(expected, found, strict=True))


def pack(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pack padded texts: (n, tokens) ids and mask → (1, t) ids; (1, t) positions within each text; (t,) index of each
    token's text; (n,) tokens per text."""
    lengths = attention_mask.sum(dim=1)
    real = attention_mask.bool()
    positions = torch.arange(input_ids.shape[1]).expand_as(input_ids)[real]
    segments = torch.arange(len(lengths)).repeat_interleave(lengths)
    return input_ids[real][None], positions[None], segments, lengths
