"""The artifact folder of a trained classifier, and the base class of its runtimes. Does not import torch.

An artifact folder holds:

- `training.json`: labels, base model, pooling and training settings (`ClassifierConfig`),
- `head.safetensors`: the head,
- for LoRA and QLoRA, PEFT's `adapter_config.json` and `adapter_model.safetensors`,
- for full fine-tuning, the weights of the body in `body/`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm.auto import tqdm

from bankllm.errors import ModelError, UsageError, explained
from bankllm.model import base_models

Pooling = Literal["mean", "cls", "last"]

TRAINING_FILE = "training.json"
HEAD_FILE = "head.safetensors"
ADAPTER_FILE = "adapter_config.json"
BODY_FOLDER = "body"


class ClassifierConfig(BaseModel):
    """Content of `training.json`: everything that is needed to load the weights, and how they were trained."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    label_names: tuple[str, ...]
    base_model: str
    """Name of the base model, as `base_models.resolve` accepts it: `minilm`, a Hub id or a folder."""
    base_sha256: str | None
    """sha256 of the base model's weights file."""
    pooling: Pooling
    logit_scale: float
    """Factor on the output of the head."""
    kernel_gamma: float | None = None
    """gamma of the kernel head; None if the head is linear."""
    max_length: int
    """Maximum tokens per text."""
    quantised: bool
    """Whether the base is loaded in 4 bits (QLoRA)."""
    method: str
    """Training method; `probe` leaves the base model unchanged."""
    threshold: float = 0.0
    """Confidence below which the classifier abstains; calibrated on validation data."""
    training: dict[str, Any] = {}
    """The training configuration, and name, counts and sha256 of the data."""


@dataclass(frozen=True)
class Prediction:
    intent: str
    confidence: float
    """Probability of the intent, 0 … 1."""
    abstains: bool
    """Whether the confidence is below the calibrated threshold, so that a person should answer."""


@dataclass(frozen=True)
class Scores:
    probabilities: np.ndarray
    """(n, classes) float32; each row sums to 1."""
    embeddings: np.ndarray
    """(n, hidden) float32, unit length: the pooled output before the head."""
    tokenise_s: float = 0.0
    """Seconds spent in the tokenizer."""


class Classifier(ABC):
    """A classifier; each runtime is a subclass."""

    artifact: ClassifierConfig

    hidden: int
    """Length of an embedding."""

    @abstractmethod
    def run(self, texts: list[str]) -> Scores:
        """Return the scores of one forward pass."""

    @abstractmethod
    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens that the encoder reads, including special tokens."""

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.artifact.label_names

    def score(self, texts: Sequence[str], batch_size: int = 64, progress: bool = False) -> Scores:
        """Return the scores of n texts, in order. Raises `UsageError` if an item is not a string.

        Batches hold texts of similar length, which keeps padding short.
        """
        if isinstance(texts, str):
            raise UsageError("Expected a list of texts, got one string. Put the string into a list: predict([text]).")
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise UsageError(
                    f"Text {position} is of type {type(text).__name__}. Expected a list of strings (the first is text "
                    "0)."
                )
        if not texts:
            return Scores(np.empty((0, len(self.label_names)), np.float32), np.empty((0, self.hidden), np.float32))
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        shown = tqdm(batches, desc="classify", leave=False, disable=not progress)
        parts = [self.run([texts[i] for i in batch]) for batch in shown]
        original = np.argsort(order)
        return Scores(
            np.concatenate([part.probabilities for part in parts])[original],
            np.concatenate([part.embeddings for part in parts])[original],
            sum(part.tokenise_s for part in parts),
        )

    def predict(self, texts: Sequence[str], batch_size: int = 64) -> list[Prediction]:
        """Return the most probable intent of each text, in order. Raises `UsageError` if an item is not a string."""
        labels, threshold = self.label_names, self.artifact.threshold
        return [
            Prediction(labels[row.argmax()], float(row.max()), bool(row.max() < threshold))
            for row in self.score(texts, batch_size).probabilities
        ]


def resolve_base(artifact: ClassifierConfig, name: str) -> base_models.BaseModel:
    """Return the base model of the artifact `name`. Raises `ModelError` if its local weights are others."""
    base = base_models.resolve(artifact.base_model)
    if artifact.base_sha256 and base.sha256 != artifact.base_sha256:
        raise ModelError(
            f"{name} was trained on a base model with sha256 {artifact.base_sha256}, but {base.name} on this machine "
            f"has {base.sha256}. Install the base model with the expected sha256, or train again."
        )
    return base


def read_artifact(folder: Path) -> ClassifierConfig:
    """Read `training.json` of an artifact folder. Raises `ModelError` if the file is missing or invalid."""
    path = folder / TRAINING_FILE
    if not path.exists():
        raise ModelError(
            f"No trained classifier in {folder}: {TRAINING_FILE} is missing. Pass a folder that `bankllm train` or "
            "notebook 03 wrote."
        )
    with explained(ModelError, f"{path} cannot be read", "Check its permissions.", OSError):
        content = path.read_bytes()
    try:
        return ClassifierConfig.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = ".".join(map(str, fault["loc"])) or "the top level"
        raise ModelError(f"{path} is invalid: {fault['msg']} at {field}. Train the classifier again.") from error
