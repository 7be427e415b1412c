"""No training of the body: a linear or kernel head is fitted on the embeddings of the frozen base model."""

from pathlib import Path
from typing import Any

from bankllm.training.config import TrainConfig
from bankllm.training.methods import METHODS, Method


class Probe(Method):
    name = "linear probe"
    trains_body = False

    def title(self, config: TrainConfig) -> str:
        return self.name if config.head == "linear" else "kernel head alone"

    def artifact(self, body: Any, folder: Path) -> None:
        """Save nothing: the body is the base model."""


METHODS.add("probe", Probe())
