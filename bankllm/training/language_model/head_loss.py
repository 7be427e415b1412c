"""Cross-entropy of a language model's output layer, in chunks and only for tokens that are learnt.

SmolLM2's output layer has 49,152 words: their logits for all tokens of a batch would take hundreds of megabytes and a
fifth of the training time.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 128
"""Tokens per chunk: 25 MB of logits."""


def head_loss(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of (n, hidden) states under the (words, hidden) output layer, which is not trained."""
    loss: Tensor = _HeadLoss.apply(hidden, weight, labels)  # type: ignore[no-untyped-call]
    return loss


class _HeadLoss(torch.autograd.Function):
    """Computes the gradient with the loss, while the logits of a chunk are in the processor's cache."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        hidden, weight = hidden.detach(), weight.detach().to(hidden.dtype)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(labels), CHUNK):
            chunk, wanted = hidden[start : start + CHUNK], labels[start : start + CHUNK, None]
            logits = (chunk @ weight.T).float()
            logits -= logits.logsumexp(1, keepdim=True)
            total -= logits.gather(1, wanted).sum()
            if gradient is not None:
                error = logits.exp_().scatter_add_(1, wanted, -torch.ones_like(logits[:, :1])).to(weight.dtype)
                torch.mm(error, weight, out=gradient[start : start + CHUNK])
        if gradient is not None:
            ctx.save_for_backward(gradient / len(labels))
        return total / len(labels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].to(ctx.saved_tensors[0].dtype) * ctx.saved_tensors[0], None, None
