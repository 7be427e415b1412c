"""Run the intent classifier from one ONNX file with ONNX Runtime: without torch, with less memory, and faster.

    OnnxClassifier.load(Path("lora-r8.onnx")).predict(["my card never came"])    # `bankllm export` wrote the file

The file needs no other files: its metadata holds labels, threshold and tokenizer.
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
"""Key in the metadata of the ONNX model. Its value is `OnnxMetadata` as JSON."""
PADDED_INPUTS = ("input_ids", "attention_mask")
"""Inputs of a graph for padded texts; see `bankllm.model.export_graphs`."""
PACKED_INPUTS = ("input_ids", "position_ids", "segments", "lengths")
"""Inputs of a graph for packed texts; see `bankllm.model.export_graphs`."""
OUTPUTS = ("logits", "embeddings", "base_embeddings")
"""Outputs of a graph. `base_embeddings` exists only if the same forward pass computes the base model's embeddings."""


PACK_TOKENS = 128
"""Maximum tokens per forward pass of a packed graph, unless a single text is longer. With more tokens, the masked
attention between different texts takes noticeable time."""


class OnnxMetadata(BaseModel):
    """What the classifier needs in addition to the graph."""

    artifact: ClassifierConfig = Field(validation_alias=AliasChoices("artifact", "artefact"))
    """The description of the classifier. Graphs written by bankllm 0.1.0 spell the key `artefact`."""
    tokenizer: str
    """The tokenizer as JSON, as the package `tokenizers` serialises it."""
    padding: str
    """The padding token."""
    embedding_length: int
    """Maximum tokens per text for base-model embeddings; the classifier may read fewer."""
    precision: Precision


class OnnxClassifier:
    """A `Classifier` in ONNX Runtime, with the same methods as `IntentClassifier`. Make one with `load`."""

    def __init__(self, session: Any, metadata: OnnxMetadata) -> None:
        self.session = session
        self.artifact = metadata.artifact
        self.variant = "" if metadata.precision == "fp32" else metadata.precision
        self._tokenizer = _tokenizer(metadata, metadata.artifact.max_length)
        self._embedding_tokenizer = _tokenizer(metadata, metadata.embedding_length)
        self._pad_token = metadata.padding
        self._pad_id = self._tokenizer.token_to_id(metadata.padding)
        self._packed = [given.name for given in session.get_inputs()] == list(PACKED_INPUTS)
        self._outputs = [output.name for output in session.get_outputs()]
        self._hidden: int = session.get_outputs()[1].shape[1]

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.artifact.label_names

    @property
    def shares_base_embedding(self) -> bool:
        """Whether `score` returns `base_embeddings`. They are mean-pooled, so vector search can use them directly."""
        return self.artifact.is_base_embedding or OUTPUTS[2] in self._outputs

    @classmethod
    def load(cls, path: Path, threads: int = 0) -> "OnnxClassifier":
        """Load a file that `bankllm export` wrote. `threads` is the number of threads; 0 means one per core.

        Raises `ModelError` if the file is missing or damaged, or was not written by `bankllm export`.
        """
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # a bank's server must not send telemetry to third parties
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            with flush_denormals():  # the threads of the session inherit the setting
                session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
            return cls(session, OnnxMetadata.model_validate_json(session.get_modelmeta().custom_metadata_map[METADATA]))
        except OSError as error:
            raise ModelError(
                f"{path} cannot be read ({os.strerror(error.errno or 0)}). Pass a file that `bankllm export` wrote."
            ) from error
        except (KeyError, ValidationError) as error:
            raise ModelError(
                f"{path} was not written by `bankllm export` of this version. Export the classifier again."
            ) from error
        except Exception as error:  # the errors of onnxruntime and tokenizers have no common base class
            raise ModelError(
                f"{path} is not a valid ONNX model ({error}). Export the classifier again with `bankllm export`."
            ) from error

    def predict(self, texts: Sequence[str], batch_size: int = 64) -> list[Prediction]:
        """Return the most probable intent of each text, in order. Raises `UsageError` if an item is not a string."""
        return predictions(self.artifact, self.score(texts, batch_size))

    def score(self, texts: Sequence[str], batch_size: int = 64) -> Scores:
        """Return probabilities and embeddings of n texts. Raises `UsageError` if an item is not a string."""
        return self._score(self._tokenizer, texts, batch_size)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens that the encoder reads for these texts, including special tokens."""
        return sum(sum(row.attention_mask) for row in self._tokenizer.encode_batch(list(texts)))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the unit-length base-model embeddings, (n, hidden). Valid only if `shares_base_embedding` is true."""
        scores = self._score(self._embedding_tokenizer, texts, batch_size=16)
        return scores.embeddings if scores.base_embeddings is None else scores.base_embeddings

    def embedding_tokenise(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids that `embed` reads for each text."""
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
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        base_embeddings = embeddings if self.artifact.is_base_embedding else base[0] if base else None
        return Scores(probabilities, embeddings, base_embeddings, tokenise_s)


def _packs(rows: list[list[int]]) -> Iterator[list[list[int]]]:
    """Group texts (rows of token ids) in order, up to `PACK_TOKENS` tokens and at least one text per group."""
    pack: list[list[int]] = []
    tokens = 0
    for row in rows:
        if pack and tokens + len(row) > PACK_TOKENS:
            yield pack
            pack, tokens = [], 0
        pack.append(row)
        tokens += len(row)
    yield pack


def _tokenizer(metadata: OnnxMetadata, max_length: int) -> Tokenizer:
    tokenizer = Tokenizer.from_str(metadata.tokenizer)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer
