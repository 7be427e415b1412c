"""Two layers of a language model as one operation each, with results and gradients equal to those of PEFT and torch.

- LoRA beside a linear layer: PEFT computes y = W x + s · B (A x) in five passes over the output. One operation, which
  reads and writes it once, takes a tenth off a training of SmolLM2 on a CPU, whose small matrices are bound by memory.
- Cross-entropy of the output layer, in chunks and only for tokens that are learnt: SmolLM2's has 49,152 words, whose
  logits for all tokens of a batch would take hundreds of megabytes and a fifth of the training time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 128
"""Tokens per chunk of the output layer: 25 MB of logits."""


@contextmanager
def used_in(model: Any) -> Iterator[None]:
    """Inside the block, replace the forward pass of LoRA layers without bias, dropout and 4 bits. Results are equal."""
    from peft.tuners.lora import Linear

    layers: list[Any] = [
        layer for layer in model.modules() if type(layer) is Linear and type(layer.base_layer) is nn.Linear
    ]
    layers = [layer for layer in layers if layer.base_layer.bias is None]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the method of the class remains


def _forward(layer: Any, x: Tensor) -> Tensor:
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    result: Tensor = _LoraLinear.apply(x.flatten(0, -2), layer.base_layer.weight, a, b, layer.scaling["default"])  # type: ignore[no-untyped-call]
    return result.view(*x.shape[:-1], -1)


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        low = x @ a.T
        ctx.save_for_backward(x, weight, a, b, low)
        ctx.scale = scale
        return (x @ weight.T).addmm_(low, b.T, alpha=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        (x, weight, a, b, low), gradient = ctx.saved_tensors, gradients[0]
        low_gradient = (gradient @ b).mul_(ctx.scale)
        x_gradient = (gradient @ weight).addmm_(low_gradient, a)
        return x_gradient, None, low_gradient.T @ x, (low.T @ gradient).T * ctx.scale, None


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
