"""The training methods: which weights of the body are trained, with which loss, and what of them is saved.

A method is one module of this folder that adds an object to `METHODS`. Everything else (the configuration, names in
tables and plots, the model card, the conditions of the records) follows from the attributes of that object.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bankllm.model.artifact import BODY_FOLDER
from bankllm.util.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from bankllm.training.config import TrainConfig


POOLER = "pooler"
"""Pooling layer that some architectures have after the last hidden state. It is never used, trained or adapted here."""


class Method(Protocol):
    """A training method. The defaults train the body's weights with cross-entropy and save the whole body."""

    name: str
    """Name for tables, plots and model cards: `LoRA`."""
    ranked: bool = False
    """Whether `TrainConfig.rank` applies. It is then part of a configuration's name: `LoRA r=8`."""
    quantised: bool = False
    """Whether the base model is loaded in 4 bits."""
    trains_body: bool = True
    """Whether gradient steps train weights of the body. If not, only the head is fitted, in closed form."""

    def title(self, config: "TrainConfig") -> str:
        """Name of a configuration, without its seed."""
        return f"{self.name} r={config.rank}" if self.ranked else self.name

    def check(self, device: str) -> None:
        """Raise `NotMeasured` if the method cannot run on `device`. Called before the base model is loaded."""

    def prepare(self, body: Any, config: "TrainConfig") -> Any:
        """Set `requires_grad` of the weights to train, and return the body, which a method may wrap.

        `body` is loaded and frozen. Raises `UsageError` if the configuration does not fit the model.
        """
        return body

    def learning_rate(self, config: "TrainConfig") -> float:
        """Learning rate of the body's trained weights."""
        return config.lr_body

    def loss(self, outputs: Any, labels: "Tensor", config: "TrainConfig") -> "Tensor":
        """Loss of one batch. For a classifier, `outputs.logits` is (n, classes) and `labels` is (n,)."""
        from torch.nn import functional

        return functional.cross_entropy(outputs.logits, labels, label_smoothing=config.label_smoothing)

    def artifact(self, body: Any, folder: Path) -> None:
        """Save the trained weights: an adapter of PEFT in `folder`, or the whole body in `folder/body`."""
        body.save_pretrained(str(folder / BODY_FOLDER))


METHODS: Registry[Method] = Registry("training method", "bankllm.methods", "bankllm.training.methods")
