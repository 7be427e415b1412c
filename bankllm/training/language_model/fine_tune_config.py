"""The settings of a language model's fine-tuning: `LanguageModelConfig(rank=8)`."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, model_validator

from bankllm.errors import UsageError
from bankllm.model import base_models
from bankllm.training.config import explain


class LanguageModelConfig(BaseModel):
    """All settings of a fine-tuning. An invalid value raises `UsageError`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["lora", "qlora"] = "lora"
    """`qlora` loads the base model in 4 bits."""
    base_model: str = "smollm2"
    """A causal language model, as `base_models.resolve` accepts it."""
    start: Path | None = None
    """Folder of an adapter of the same rank that the training continues; None: a new adapter."""
    average: bool = False
    """Whether the result is the mean of the weights of `start` and of those after the training, which forgets less
    than the latter (Wortsman et al., Robust fine-tuning of zero-shot models, 2022)."""
    rank: int = Field(8, ge=1, le=256)
    """Rank r of the LoRA matrices beside every linear layer except the output layer."""
    alpha: int | None = Field(None, gt=0)
    """Numerator of LoRA's scale alpha / rank. None means 2 × rank."""
    learning_rate: float = Field(1e-3, gt=0)
    """Highest learning rate: it rises linearly in the first 3 % of the steps, then falls linearly to 0."""
    epochs: int = Field(2, ge=1)
    max_steps: int | None = Field(None, gt=0)
    """Number of gradient steps after which the training ends, also within an epoch; None: after `epochs`."""
    batch_size: int = Field(16, ge=1)
    """Examples per step."""
    max_length: int = Field(512, ge=16)
    """Maximum tokens per example. Longer examples are left out and counted."""
    seed: int = Field(0, ge=0)
    """Random seed of the adapter and of the order of the examples."""

    @property
    def scale(self) -> int:
        return 2 * self.rank if self.alpha is None else self.alpha

    @property
    def published(self) -> dict[str, Any]:
        """The settings with the published name of the base model and without the folder `start`: no local path."""
        name = base_models.resolve(self.base_model).name
        return {**self.model_dump(mode="json", exclude={"start"}), "base_model": name}

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        with explain("bankllm/training/language_model/fine_tune_config.py"):
            config = handler(values)
        if config.average and config.start is None:
            raise UsageError("average=true needs the adapter to average with. Set start to its folder.")
        return config
