"""The intent classifier as one ONNX graph, run by ONNX Runtime: no torch, less memory, faster.

    OnnxClassifier.load(Path("mine.onnx")).predict(["my card never came"])    # `bankllm export` wrote the file

The file stands alone: labels, threshold and tokenizer travel in its metadata.
"""

import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import AliasChoices, BaseModel, Field, ValidationError
from tokenizers import Tokenizer

from bankllm.errors import ModelError
from bankllm.model.artifact import ClassifierConfig, Prediction, Scores, predictions, score_in_batches
from bankllm.model.denormals import flush_denormals

Precision = Literal["fp32", "int8"]

METADATA = "bankllm"
"""Key of the model's metadata under which `OnnxMetadata` lie as JSON."""
PADDED_INPUTS = ("input_ids", "attention_mask")
PACKED_INPUTS = ("input_ids", "position_ids", "segments", "lengths")
"""See `bankllm.model.export_graphs`."""
OUTPUTS = ("logits", "embeddings", "base_embeddings")
"""The last one only where the plain base model's embedding comes without another pass."""


PACK_TOKENS = 128
"""In one pass of a packed graph: beyond it, attention between texts that do not concern each other begins to cost."""


class OnnxMetadata(BaseModel):
    """What the graph itself does not say."""

    artifact: ClassifierConfig = Field(validation_alias=AliasChoices("artifact", "artefact"))
    """Graphs of bankllm 0.1.0 spell the key `artefact`."""
    tokenizer: str
    """As the package `tokenizers` serialises it."""
    padding: str
    """The token that shorter texts are filled up with."""
    embedding_length: int
    """Tokens that the plain base model's embedding reads; the classifier may read fewer."""
    precision: Precision


class OnnxClassifier:
    """Scores, predicts and embeds as `IntentClassifier` does."""

    def __init__(self, session: Any, notes: OnnxMetadata) -> None:
        self.session = session
        self.artifact = notes.artifact
        self.variant = "" if notes.precision == "fp32" else notes.precision
        self._tokenizer = _tokenizer(notes, notes.artifact.max_length)
        self._embedding_tokenizer = _tokenizer(notes, notes.embedding_length)
        self._pad_token = notes.padding
        self._pad_id = self._tokenizer.token_to_id(notes.padding)
        self._packed = [given.name for given in session.get_inputs()] == list(PACKED_INPUTS)
        self._outputs = [output.name for output in session.get_outputs()]
        self._hidden: int = session.get_outputs()[1].shape[1]

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.artifact.label_names

    @property
    def shares_base_embedding(self) -> bool:
        """Whether `Scores.base_embeddings` are there: mean-pooled, so that search can use them as they are."""
        return self.artifact.is_base_embedding or OUTPUTS[2] in self._outputs

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
            with flush_denormals():  # the session's own threads inherit it
                session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
            return cls(session, OnnxMetadata.model_validate_json(session.get_modelmeta().custom_metadata_map[METADATA]))
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({os.strerror(error.errno or 0)}).") from error
        except (KeyError, ValidationError) as error:
            raise ModelError(f"{path} was not written by this version's `bankllm export`. Export it again.") from error
        except Exception as error:  # onnxruntime's and tokenizers' errors share no base
            raise ModelError(f"{path} is no ONNX model that can be run ({error}). Export it again.") from error

    def predict(self, texts: Sequence[str], batch_size: int = 64) -> list[Prediction]:
        """The likeliest intent of each text, in order. Raises `UsageError` for an item that is no string."""
        return predictions(self.artifact, self.score(texts, batch_size))

    def score(self, texts: Sequence[str], batch_size: int = 64) -> Scores:
        """Probabilities and embeddings of n texts. Raises `UsageError` for an item that is no string."""
        return self._score(self._tokenizer, texts, batch_size)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens that the encoder reads of these texts, special ones included."""
        return sum(sum(row.attention_mask) for row in self._tokenizer.encode_batch(list(texts)))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The plain base model's (n, hidden) unit-length embeddings; only where `shares_base_embedding`."""
        scores = self._score(self._embedding_tokenizer, texts, batch_size=16)
        return scores.embeddings if scores.base_embeddings is None else scores.base_embeddings

    def embedding_tokenise(self, texts: list[str]) -> list[list[int]]:
        """The token ids that `embed` reads of each text."""
        return [row.ids for row in self._embedding_tokenizer.encode_batch(texts)]

    def _score(self, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int) -> Scores:
        run = partial(self._run_packed if self._packed else self._run_padded, tokenizer)
        return score_in_batches(texts, run, len(self.label_names), self._hidden, batch_size=batch_size)

    def _run_padded(self, tokenizer: Tokenizer, texts: list[str]) -> Scores:
        start = time.perf_counter()
        rows = tokenizer.encode_batch(texts)
        tokenise_s = time.perf_counter() - start
        longest = max(len(row.ids) for row in rows)
        for row in rows:
            row.pad(longest, pad_id=self._pad_id, pad_token=self._pad_token)
        ids, mask = [row.ids for row in rows], [row.attention_mask for row in rows]
        return self._scores(self._run(PADDED_INPUTS, ids, mask), tokenise_s)

    def _run_packed(self, tokenizer: Tokenizer, texts: list[str]) -> Scores:
        start = time.perf_counter()
        rows = [row.ids for row in tokenizer.encode_batch(texts)]
        tokenise_s = time.perf_counter() - start
        outputs = []
        for pack in _packs(rows):
            ids, lengths = np.concatenate(pack), [len(row) for row in pack]
            positions = np.concatenate([np.arange(length) for length in lengths])
            segments = np.repeat(np.arange(len(pack)), lengths)
            outputs.append(self._run(PACKED_INPUTS, ids[None], positions[None], segments, lengths))
        return self._scores([np.concatenate(parts) for parts in zip(*outputs, strict=True)], tokenise_s)

    def _run(self, names: Sequence[str], *inputs: Any) -> list[np.ndarray]:
        arrays = [np.asarray(values, dtype=np.int64) for values in inputs]
        with flush_denormals():
            return self.session.run(self._outputs, dict(zip(names, arrays, strict=True)))

    def _scores(self, outputs: list[np.ndarray], tokenise_s: float) -> Scores:
        logits, embeddings, *base = outputs
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        plain = embeddings if self.artifact.is_base_embedding else base[0] if base else None
        return Scores(odds / odds.sum(axis=1, keepdims=True), embeddings, plain, tokenise_s)


def _packs(rows: list[list[int]]) -> Iterator[list[list[int]]]:
    """Texts that go through together, in order: up to `PACK_TOKENS`, and one at least."""
    pack: list[list[int]] = []
    tokens = 0
    for row in rows:
        if pack and tokens + len(row) > PACK_TOKENS:
            yield pack
            pack, tokens = [], 0
        pack.append(row)
        tokens += len(row)
    yield pack


def _tokenizer(notes: OnnxMetadata, max_length: int) -> Tokenizer:
    tokenizer = Tokenizer.from_str(notes.tokenizer)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer
