"""Full fine-tuning: every weight of the body is trained."""

from typing import Any

from bankllm.training.config import TrainConfig
from bankllm.training.methods import METHODS, Method


class FullFineTuning(Method):
    name = "full fine-tuning"

    def prepare(self, body: Any, config: TrainConfig) -> Any:
        return body.float().requires_grad_(True)


METHODS.add("full", FullFineTuning())
