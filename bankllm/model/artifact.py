"""The artifact folder of a trained classifier, and the interface that all its runtimes share. Does not import torch.

An artifact folder holds:

- `training.json`: labels, base model, pooling and training settings (`ClassifierConfig`),
- `head.safetensors`: the head,
- for LoRA and QLoRA, PEFT's `adapter_config.json` and `adapter_model.safetensors`,
- for full fine-tuning, the weights of the body in `body/`.
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
    """Content of `training.json`: everything that is needed to load the weights, and how they were trained."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    label_names: tuple[str, ...]
    base_model: str
    """Name of the base model, as `base_models.resolve` accepts it: `minilm`, a Hub id or a folder."""
    base_sha256: str | None
    """sha256 of the base model's weights file; None if it is unknown."""
    pooling: Pooling
    logit_scale: float
    """Factor on the output of the head."""
    kernel_gamma: float | None = None
    """gamma of the kernel head; None if the head is linear."""
    max_length: int
    """Maximum tokens per text; longer texts are cut."""
    quantised: bool
    """True if the base was loaded in 4 bits (QLoRA). It is then loaded in 4 bits again."""
    method: str
    """Training method: probe, lora, qlora or full."""
    threshold: float = 0.0
    """Confidence below which the classifier abstains; calibrated on validation data."""
    training: dict[str, Any] = {}
    """The training configuration, and name, counts and sha256 of the data."""

    @property
    def is_base_embedding(self) -> bool:
        """Whether `Scores.embeddings` equal the embeddings of the base model, which vector search uses."""
        return self.method == "probe" and self.pooling == "mean"


@dataclass(frozen=True)
class Prediction:
    """The prediction of the classifier for one text."""

    intent: str
    """The most probable intent."""
    confidence: float
    """Probability of the intent, 0 … 1."""
    abstains: bool
    """True if the confidence is below the calibrated threshold. The request should be handed over to a person."""


@dataclass(frozen=True)
class Scores:
    """The result of one forward pass for n texts."""

    probabilities: np.ndarray
    """(n, classes) float32; each row sums to 1."""
    embeddings: np.ndarray
    """(n, hidden) float32, unit length: the pooled output before the head."""
    base_embeddings: np.ndarray | None = None
    """(n, hidden) float32, unit length: embeddings of the base model without adapter. None if they would need a second
    forward pass; see `Classifier.shares_base_embedding`."""
    tokenise_s: float = 0.0
    """Seconds spent in the tokenizer."""


class Classifier(Protocol):
    """The interface of a classifier in torch or in ONNX Runtime, as the chat engine uses it."""

    artifact: ClassifierConfig

    @property
    def label_names(self) -> tuple[str, ...]: ...

    @property
    def shares_base_embedding(self) -> bool:
        """Whether `score` returns `base_embeddings`. They are mean-pooled, so vector search can use them directly."""

    @property
    def variant(self) -> str:
        """Name of the numeric variant of the embeddings, for example `int8`; empty for fp32."""

    def score(self, texts: Sequence[str], batch_size: int = 64) -> Scores:
        """Return probabilities and embeddings of n texts. Raises `UsageError` if an item is not a string."""

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens that the encoder reads for these texts, including special tokens."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the (n, hidden) embeddings of the base model. Valid only if `shares_base_embedding` is true."""

    @property
    def embedding_tokenise(self) -> base_models.Tokenise | None:
        """The tokenizer function of `embed`; None if the model has no fast tokenizer."""


def score_in_batches(
    texts: Sequence[str],
    run: Callable[[list[str]], Scores],
    classes: int,
    hidden: int,
    *,
    batch_size: int,
) -> Scores:
    """Apply `run` to batches of texts sorted by length, which keeps padding short.

    `classes` and `hidden` are the widths of the empty arrays that are returned for no texts. The rows of the result
    are in the order of `texts`. Raises `UsageError` if an item is not a string.
    """
    _check_texts(texts)
    if not texts:
        return Scores(np.empty((0, classes), dtype=np.float32), np.empty((0, hidden), dtype=np.float32))
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    parts = [run([texts[i] for i in order[start : start + batch_size]]) for start in range(0, len(order), batch_size)]
    original = np.argsort(order)
    base = [part.base_embeddings for part in parts if part.base_embeddings is not None]
    return Scores(
        np.concatenate([part.probabilities for part in parts])[original],
        np.concatenate([part.embeddings for part in parts])[original],
        np.concatenate(base)[original] if base else None,
        sum(part.tokenise_s for part in parts),
    )


def predictions(artifact: ClassifierConfig, scores: Scores) -> list[Prediction]:
    """Convert scores to predictions: the most probable intent per text, and whether the classifier abstains."""
    return [
        Prediction(artifact.label_names[row.argmax()], float(row.max()), bool(row.max() < artifact.threshold))
        for row in scores.probabilities
    ]


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise UsageError("Expected a list of texts, got one string. Put the string into a list: predict([text]).")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(
                f"Text {position} is of type {type(text).__name__}. Expected a list of strings (the first is text 0)."
            )


def resolve_base(artifact: ClassifierConfig, name: str) -> base_models.BaseModel:
    """Return the base model of the artifact. Raises `ModelError` if the local base model has other weights.

    `name` is the name of the artifact in the error message.
    """
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
    try:
        return ClassifierConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = ".".join(map(str, fault["loc"])) or "the top level"
        raise ModelError(f"{path} is invalid: {fault['msg']} at {field}. Train the classifier again.") from error
