"""What a trained classifier is, whatever runs it: its folder's description, its scores and what they mean.

A folder holds `training.json` (labels, base model, how to pool), `head.safetensors`, and, for LoRA and QLoRA,
PEFT's `adapter_config.json` and `adapter_model.safetensors` beside them; after full fine-tuning the body's own
weights in `body/`. Nothing here imports torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from bankllm.errors import ModelError, UsageError
from bankllm.model import base_models

Pooling = Literal["mean", "cls", "last"]

TRAINING_FILE = "training.json"
HEAD_FILE = "head.safetensors"
ADAPTER_FILE = "adapter_config.json"
BODY_FOLDER = "body"


class ClassifierConfig(BaseModel):
    """What `training.json` says: all that is needed to use the weights again, and where they came from."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    label_names: tuple[str, ...]
    base_model: str
    """What `models.resolve` takes: `minilm`, a Hub id or a folder."""
    base_sha256: str | None
    pooling: Pooling
    logit_scale: float
    kernel_gamma: float | None = None
    """Width of a kernel head; None where the head is linear."""
    max_length: int
    quantised: bool
    """The base was loaded in 4 bits (QLoRA) and is loaded so again."""
    method: str
    threshold: float = 0.0
    """Answers below this confidence are abstentions; calibrated on validation data."""
    training: dict[str, Any] = {}
    """The training configuration and the data's name, counts and sha256."""

    @property
    def is_base_embedding(self) -> bool:
        """Whether `Scores.embeddings` are the plain base model's own, as search uses them."""
        return self.method == "probe" and self.pooling == "mean"


@dataclass(frozen=True)
class Prediction:
    """What the classifier says about one text."""

    intent: str
    confidence: float
    """The intent's probability, 0 … 1."""
    abstains: bool
    """The confidence lies below the artifact's calibrated threshold: hand over to a person."""


@dataclass(frozen=True)
class Scores:
    """What one pass of the encoder gives for n texts."""

    probabilities: np.ndarray
    """(n, classes) float32, each row sums to 1."""
    embeddings: np.ndarray
    """(n, hidden) float32, unit length: the pooled output before the head."""
    base_embeddings: np.ndarray | None = None
    """The same of the plain base model, where it comes without another pass; see `shares_base_embedding`."""
    tokenise_s: float = 0.0
    """What the tokenizer took of the time."""


class Classifier(Protocol):
    """What the chat engine asks of a classifier, in torch or in ONNX Runtime."""

    artifact: ClassifierConfig

    @property
    def label_names(self) -> tuple[str, ...]: ...

    @property
    def shares_base_embedding(self) -> bool:
        """Whether `Scores.base_embeddings` are there: mean-pooled, so that search can use them as they are."""

    @property
    def variant(self) -> str:
        """What tells its embeddings from those of the base model in fp32; empty where nothing does."""

    def score(self, texts: Sequence[str], batch_size: int = 64) -> Scores: ...

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens that the encoder reads of these texts, special ones included."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The plain base model's (n, hidden) embeddings, where `shares_base_embedding` says that they are there."""

    @property
    def embedding_tokenise(self) -> base_models.Tokenise | None:
        """What `embed` reads of texts; None where no fast tokenizer tells it."""


def score_in_batches(
    texts: Sequence[str],
    run: Callable[[list[str]], Scores],
    classes: int,
    hidden: int,
    *,
    batch_size: int,
) -> Scores:
    """Apply `run` to texts sorted by length: little time goes into padding.

    The rows come back in the order of `texts`. Raises `UsageError` for an item that is no string.
    """
    _check_texts(texts)
    if not texts:
        return Scores(np.empty((0, classes), dtype=np.float32), np.empty((0, hidden), dtype=np.float32))
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    parts = [run([texts[i] for i in order[start : start + batch_size]]) for start in range(0, len(order), batch_size)]
    back = np.argsort(order)
    base = [part.base_embeddings for part in parts if part.base_embeddings is not None]
    return Scores(
        np.concatenate([part.probabilities for part in parts])[back],
        np.concatenate([part.embeddings for part in parts])[back],
        np.concatenate(base)[back] if base else None,
        sum(part.tokenise_s for part in parts),
    )


def predictions(artifact: ClassifierConfig, scores: Scores) -> list[Prediction]:
    """What the scores mean: the likeliest intent of each text, and whether it lies below the threshold."""
    return [
        Prediction(artifact.label_names[row.argmax()], float(row.max()), bool(row.max() < artifact.threshold))
        for row in scores.probabilities
    ]


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise UsageError("Expected a list of texts, got one string. Put it into a list: predict([text]).")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(
                f"Text {position} is of type {type(text).__name__}. Expected a list of strings; the first is text 0."
            )


def resolve_base(artifact: ClassifierConfig, name: str) -> base_models.BaseModel:
    """The base model that the artifact needs. Raises `ModelError` where the one here has other weights."""
    base = base_models.resolve(artifact.base_model)
    if artifact.base_sha256 and base.sha256 != artifact.base_sha256:
        raise ModelError(
            f"{name} was trained on a base model with sha256 {artifact.base_sha256}, but {base.name} here has "
            f"{base.sha256}. Use the base model that training.json names."
        )
    return base


def read_artifact(folder: Path) -> ClassifierConfig:
    """What `training.json` says. Raises `ModelError` where there is none or it cannot be read."""
    path = folder / TRAINING_FILE
    if not path.exists():
        raise ModelError(
            f"No trained classifier in {folder}: {TRAINING_FILE} is missing. Expected a folder that `bankllm train` "
            "or notebook 03 wrote."
        )
    try:
        return ClassifierConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ModelError(f"{path} cannot be used: {fault['msg']} at {fault['loc']}. Train again.") from error
