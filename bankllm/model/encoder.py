"""The torch modules of the classifier: transformer body, pooling to one unit-length embedding per text, and head."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import SequenceClassifierOutput

from bankllm.errors import UsageError
from bankllm.model.artifact import Pooling


class KernelHead(nn.Module):
    """Kernel head: bias + Σ weight · exp(−gamma ‖embedding − landmark‖²), summed over the landmarks.

    It is never fitted with gradients, so its tensors are buffers. Their values have the half precision of the file.
    """

    landmarks: Tensor
    """(m, hidden): unit-length embeddings of m training texts."""
    weight: Tensor
    """(classes, m): weight of each landmark for each class."""
    bias: Tensor

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
        similarity = torch.exp(2 * self.gamma * (embeddings @ self.landmarks.T - 1))
        return functional.linear(similarity, self.weight, self.bias)


class EncoderWithHead(nn.Module):
    """The whole classifier: body → pooled unit-length embedding → head, with logits scaled by `logit_scale`."""

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
        return functional.normalize(pool(hidden, attention_mask, self.pooling).float(), dim=-1)

    def classify(self, embeddings: Tensor) -> Tensor:
        """(n, hidden) embeddings → (n, classes) logits."""
        if isinstance(self.head, KernelHead):
            logits: Tensor = self.head(embeddings)
            return self.logit_scale * logits
        return functional.linear(self.logit_scale * embeddings, self.head.weight, self.head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:
        """(n, tokens) ids and mask → (n, classes) logits."""
        return SequenceClassifierOutput(logits=self.classify(self.embed(input_ids, attention_mask)))


def pool(hidden: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """(n, tokens, hidden) → (n, hidden): mean over the real tokens, first token (`cls`), or last real token."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        positions = torch.arange(attention_mask.shape[1], device=hidden.device)
        last = (attention_mask * positions).argmax(dim=1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def layer_list(body: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return name and list of the transformer layers: the longest `nn.ModuleList` of the body.

    Raises `UsageError` if the body has no `nn.ModuleList`.
    """
    lists = [(name, module) for name, module in body.named_modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise UsageError(
            "This model has no list of transformer layers, so top_layers cannot be used. Set top_layers to None."
        )
    return max(lists, key=lambda item: len(item[1]))
