"""The intent classifier as one ONNX graph, run by ONNX Runtime: no torch, less memory, faster.

    OnnxClassifier.load(Path("mine.onnx")).predict(["my card never came"])    # `bankllm export` wrote the file

The file stands alone: labels, threshold and tokenizer travel in its metadata.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ValidationError
from tokenizers import Tokenizer

from bankllm.artefact import Artefact, Prediction, Scores, predictions, score_in_batches
from bankllm.errors import ModelError

Precision = Literal["fp32", "int8"]

METADATA = "bankllm"
"""Key of the model's metadata under which `Notes` lie as JSON."""
INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("logits", "embeddings", "base_embeddings")
"""The last one only where the plain base model's embedding comes without another pass."""


class Notes(BaseModel):
    """What the graph itself does not say."""

    artefact: Artefact
    tokenizer: str
    """As the package `tokenizers` serialises it."""
    padding: str
    """The token that shorter texts are filled up with."""
    embedding_length: int
    """Tokens that the plain base model's embedding reads; the classifier may read fewer."""
    precision: Precision


class OnnxClassifier:
    """Scores, predicts and embeds as `IntentClassifier` does."""

    def __init__(self, session: Any, notes: Notes) -> None:
        self.session = session
        self.artefact = notes.artefact
        self.variant = "" if notes.precision == "fp32" else notes.precision
        self._tokenizer = _tokenizer(notes, notes.artefact.max_length)
        self._embedding_tokenizer = _tokenizer(notes, notes.embedding_length)
        self._outputs = [output.name for output in session.get_outputs()]
        self._hidden: int = session.get_outputs()[1].shape[1]

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.artefact.label_names

    @property
    def shares_base_embedding(self) -> bool:
        """Whether `Scores.base_embeddings` are there: mean-pooled, so that search can use them as they are."""
        return self.artefact.is_base_embedding or OUTPUTS[2] in self._outputs

    @classmethod
    def load(cls, path: Path, threads: int = 0) -> "OnnxClassifier":
        """Load what `bankllm export` wrote. `threads` 0: one a core.

        Raises `ModelError` for a file that is missing, damaged or another program's.
        """
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # a bank's server reports to nobody
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
            return cls(session, Notes.model_validate_json(session.get_modelmeta().custom_metadata_map[METADATA]))
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({os.strerror(error.errno or 0)}).") from error
        except (KeyError, ValidationError) as error:
            raise ModelError(f"{path} was not written by this version's `bankllm export`. Export it again.") from error
        except Exception as error:  # onnxruntime's and tokenizers' errors share no base
            raise ModelError(f"{path} is no ONNX model that can be run ({error}). Export it again.") from error

    def predict(self, texts: Sequence[str], batch_size: int = 64) -> list[Prediction]:
        """The likeliest intent of each text, in order. Raises `UsageError` for an item that is no string."""
        return predictions(self.artefact, self.score(texts, batch_size))

    def score(self, texts: Sequence[str], batch_size: int = 64) -> Scores:
        """Probabilities and embeddings of n texts. Raises `UsageError` for an item that is no string."""
        run = partial(self._run, self._tokenizer)
        return score_in_batches(texts, run, len(self.label_names), self._hidden, batch_size=batch_size)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens that the encoder reads of these texts, special ones included."""
        return sum(sum(row.attention_mask) for row in self._tokenizer.encode_batch(list(texts)))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The plain base model's (n, hidden) unit-length embeddings; only where `shares_base_embedding`."""
        run = partial(self._run, self._embedding_tokenizer)
        scores = score_in_batches(texts, run, len(self.label_names), self._hidden, batch_size=16)
        return scores.embeddings if scores.base_embeddings is None else scores.base_embeddings

    def _run(self, tokenizer: Tokenizer, texts: list[str]) -> Scores:
        encoded = tokenizer.encode_batch(texts)
        inputs = (
            np.array([row.ids for row in encoded], dtype=np.int64),
            np.array([row.attention_mask for row in encoded], dtype=np.int64),
        )
        logits, embeddings, *base = self.session.run(self._outputs, dict(zip(INPUTS, inputs, strict=True)))
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        plain = embeddings if self.artefact.is_base_embedding else base[0] if base else None
        return Scores(odds / odds.sum(axis=1, keepdims=True), embeddings, plain)


def _tokenizer(notes: Notes, max_length: int) -> Tokenizer:
    tokenizer = Tokenizer.from_str(notes.tokenizer)
    tokenizer.enable_truncation(max_length)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(notes.padding), pad_token=notes.padding)
    return tokenizer
