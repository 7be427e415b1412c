"""Run the intent classifier from one ONNX file with ONNX Runtime: without torch, with less memory, and faster.

    OnnxClassifier.load(Path("lora-r8.onnx")).predict(["my card never came"])    # `bankllm export` wrote the file

The file needs no other files: its metadata holds labels, threshold and tokenizer.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel
from tokenizers import Encoding, Tokenizer

from bankllm.errors import ModelError, explained
from bankllm.model.artifact import Classifier, ClassifierConfig, Scores
from bankllm.util.sampling import batches

METADATA = "bankllm"
"""Key in the metadata of the ONNX model. Its value is `OnnxMetadata` as JSON."""
PADDED_INPUTS = ("input_ids", "attention_mask")
PACKED_INPUTS = ("input_ids", "position_ids", "segments", "lengths")
"""See `bankllm.model.export_graphs`."""
OUTPUTS = ("logits", "embeddings")
PACK_TOKENS = 128
"""Maximum tokens per pass of a packed graph, unless one text is longer: masked attention between texts costs time."""


class OnnxMetadata(BaseModel):
    artifact: ClassifierConfig
    tokenizer: str
    """As the package `tokenizers` serialises it."""
    padding: str


class OnnxClassifier(Classifier):
    def __init__(self, session: Any, metadata: OnnxMetadata) -> None:
        self.session = session
        self.artifact = metadata.artifact
        self.hidden = int(session.get_outputs()[1].shape[1])
        self._tokenizer = Tokenizer.from_str(metadata.tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(metadata.artifact.max_length)
        self._pad = {"pad_id": self._tokenizer.token_to_id(metadata.padding), "pad_token": metadata.padding}
        self._packed = [given.name for given in session.get_inputs()] == list(PACKED_INPUTS)

    @classmethod
    def load(cls, path: Path, threads: int = 0) -> "OnnxClassifier":
        """Load a file that `bankllm export` wrote. Raises `ModelError` for any other. `threads` 0: one per core."""
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # a bank's server must not send telemetry to third parties
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # The softmax over packed texts gives denormal numbers, which Intel cores process slowly. In the process's first
        # session, the option also holds for this thread, and so for the threads that it starts.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        with explained(ModelError, f"{path} cannot be read", "Pass a file that `bankllm export` wrote.", OSError):
            content = path.read_bytes()
        fault = f"{path} is not a valid ONNX model that `bankllm export` of this version wrote"
        with explained(ModelError, fault, "Export the classifier again with `bankllm export`."):
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            return cls(session, OnnxMetadata.model_validate_json(session.get_modelmeta().custom_metadata_map[METADATA]))

    def count_tokens(self, texts: Sequence[str]) -> int:
        return sum(len(row.ids) for row in self._tokenizer.encode_batch(list(texts)))

    def run(self, texts: list[str]) -> Scores:
        start = time.perf_counter()
        rows = self._tokenizer.encode_batch(texts)
        tokenise_s = time.perf_counter() - start
        logits, embeddings = self._run_packed(rows) if self._packed else self._run_padded(rows)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))  # also without classes
        return Scores(exponentials / exponentials.sum(axis=1, keepdims=True), embeddings, tokenise_s)

    def _run_padded(self, rows: list[Encoding]) -> list[np.ndarray]:
        longest = max(len(row.ids) for row in rows)
        for row in rows:
            row.pad(longest, **self._pad)
        return self._run_graph(PADDED_INPUTS, [row.ids for row in rows], [row.attention_mask for row in rows])

    def _run_packed(self, rows: list[Encoding]) -> list[np.ndarray]:
        outputs = []
        for pack in batches([row.ids for row in rows], len, PACK_TOKENS):
            ids, lengths = np.concatenate(pack), [len(row) for row in pack]
            positions = np.concatenate([np.arange(length) for length in lengths])
            segments = np.repeat(np.arange(len(pack)), lengths)
            outputs.append(self._run_graph(PACKED_INPUTS, ids[None], positions[None], segments, lengths))
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]

    def _run_graph(self, names: Sequence[str], *inputs: Any) -> list[np.ndarray]:
        arrays = [np.asarray(values, dtype=np.int64) for values in inputs]
        outputs: list[np.ndarray] = self.session.run(OUTPUTS, dict(zip(names, arrays, strict=True)))
        return outputs
