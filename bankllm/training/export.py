"""One ONNX graph of a trained classifier (backbone, adapter, pooling, head), for serving without torch's cost.

`bankllm export adapters/mine mine.onnx`; then `OnnxClassifier.load(Path("mine.onnx")).predict(texts)`. Batch and
sequence are dynamic; labels and threshold travel in the file. Needs the extra `onnx`.
"""

import importlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from bankllm import models
from bankllm.classifier import (
    Artefact,
    IntentClassifier,
    Prediction,
    Scores,
    load_tokenizer,
    predictions,
    resolve_base,
    score_in_batches,
    tokenise,
)
from bankllm.encoder import EncoderWithHead
from bankllm.errors import ModelError, UsageError
from bankllm.evidence.records import atomic_writer

METADATA = "bankllm.artefact"
"""Key of the model's metadata under which the artefact's description lies as JSON."""
INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("logits", "embeddings")
MAX_BYTES = 2**31 - 1
"""Protocol buffers, and with them a single ONNX file, end there."""
EXAMPLE = ["my card has not arrived yet", "hello"]
"""Two texts of unlike length: the exporter takes an axis of size 1 for a constant."""

TALKATIVE = ("torch.onnx._internal.exporter._registration", "transformers.integrations.bitsandbytes")


class _Graph(nn.Module):
    """(n, tokens) int64 ids and mask → (n, classes) logits and (n, hidden) unit-length embeddings."""

    def __init__(self, module: EncoderWithHead) -> None:
        super().__init__()
        self.module = module

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        embeddings = self.module.embed(input_ids, attention_mask)
        return self.module.classify(embeddings), embeddings


def export_onnx(folder: Path, output: Path) -> Path:
    """Write the merged fp32 model of an artefact folder as one ONNX file, whole or not at all.

    A base in 4 bits is expanded first. Raises `UsageError` where a package is missing or the model is too large for
    one file, `ModelError` for a folder that holds no classifier, and `RunError` where `output` cannot be written.
    """
    for package in ("onnx", "onnxscript"):
        _need(package)
    with _quiet_export():
        classifier = IntentClassifier.load(folder, dequantise=True)
    module = classifier.module.float().cpu()
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    if size > MAX_BYTES:
        raise UsageError(
            f"{folder.name} has weights of {size / 2**30:.1f} GiB in fp32, and one ONNX file holds 2 GiB. Export a "
            "classifier of a smaller base model, or serve this one as it is."
        )
    batch = tokenise(classifier.tokenizer, EXAMPLE, classifier.artefact.max_length, "pt")
    with atomic_writer(output) as file:  # first, so that a place that cannot be written is known before the work
        file.write(_serialise(module, {name: batch[name] for name in INPUTS}, classifier.artefact))
    return output


def _serialise(module: EncoderWithHead, example: dict[str, Tensor], artefact: Artefact) -> bytes:
    with _quiet_export():
        program = torch.onnx.export(
            _Graph(module).eval(),
            kwargs=example,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in INPUTS},
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # `dynamo=True` gives a program
    model = program.model_proto
    model.metadata_props.add(key=METADATA, value=artefact.model_dump_json())
    return bytes(model.SerializeToString())


class OnnxClassifier:
    """Scores and predicts as `IntentClassifier` does, with ONNX Runtime instead of torch."""

    def __init__(self, session: Any, tokenizer: PreTrainedTokenizerBase, artefact: Artefact) -> None:
        self.session = session
        self.tokenizer = tokenizer
        self.artefact = artefact

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.artefact.label_names

    @classmethod
    def load(cls, path: Path, threads: int = 0) -> "OnnxClassifier":
        """Load what `export_onnx` wrote; the tokenizer comes from the base model. `threads` 0: one a core.

        Raises `UsageError` without onnxruntime, `ModelError` for a file that is damaged or another's.
        """
        runtime = _need("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            session = runtime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
            artefact = Artefact.model_validate_json(session.get_modelmeta().custom_metadata_map[METADATA])
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({os.strerror(error.errno or 0)}).") from error
        except (KeyError, ValidationError) as error:
            raise ModelError(f"{path} was not written by `bankllm export`: its metadata lacks {METADATA}.") from error
        except Exception as error:  # onnxruntime's errors share no base
            raise ModelError(f"{path} is no ONNX model that can be run ({error}). Export it again.") from error
        return cls(session, load_tokenizer(resolve_base(artefact, path.name)), artefact)

    def predict(self, texts: Sequence[str], batch_size: int = 64) -> list[Prediction]:
        """The likeliest intent of each text, in order. Raises `UsageError` for an item that is no string."""
        return predictions(self.artefact, self.score(texts, batch_size))

    def score(self, texts: Sequence[str], batch_size: int = 64) -> Scores:
        """Probabilities and embeddings of n texts. Raises `UsageError` for an item that is no string."""
        hidden: int = self.session.get_outputs()[1].shape[1]
        return score_in_batches(texts, self._run, len(self.label_names), hidden, batch_size=batch_size)

    def _run(self, texts: list[str]) -> Scores:
        batch = tokenise(self.tokenizer, texts, self.artefact.max_length, "np")
        logits, embeddings = self.session.run(OUTPUTS, {name: batch[name].astype(np.int64) for name in INPUTS})
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return Scores(odds / odds.sum(axis=1, keepdims=True), embeddings)


def _need(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UsageError(
            f"ONNX needs the package {package}, which is not installed ({error}). Run: pip install 'bankllm[onnx]'."
        ) from error


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Without torchvision's absence, axis names that are shared on purpose, and torch's notes on itself."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with models.quiet_loading(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
            warnings.filterwarnings("ignore", "While compiling, we found certain side effects", UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
