"""Export a trained classifier (body, adapter, pooling and head) as one ONNX file for `model.onnx_classifier`.

A base model is exported as a classifier without classes, for its embeddings.
"""

import hashlib
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime

from bankllm.errors import ModelError, UsageError
from bankllm.model import base_models
from bankllm.model.artifact import TRAINING_FILE, read_artifact, resolve_base
from bankllm.model.cached_files import cached_path
from bankllm.model.onnx_classifier import METADATA, OUTPUTS, PACKED_INPUTS, PADDED_INPUTS, OnnxMetadata
from bankllm.model.quiet_loading import quiet_loading
from bankllm.settings import Settings
from bankllm.util.atomic_files import atomic_writer
from bankllm.util.file_hash import sha256_of

if TYPE_CHECKING:
    from bankllm.model.torch_classifier import IntentClassifier

SOURCES = [Path(__file__).with_name(name) for name in ("export.py", "export_graphs.py")]
"""Code that determines the graph. A graph that other code exported is not used."""
MAX_BYTES = 2**31 - 1
"""Maximum size of a single ONNX file in bytes, which is the limit of protocol buffers."""
EXAMPLE = ["my card has not arrived yet", "hello", "where is it?"]
"""Inputs for the exporter, which treats an axis of size 1 as constant."""
NOISY_LOGGERS = ("torch.onnx._internal.exporter._registration", "transformers.integrations.bitsandbytes", "root")


def export_onnx(folder: Path, output: Path) -> Path:
    """Write the classifier or base model in `folder`, merged and in fp32, to `output`, complete or not at all.

    Returns `output`. Raises `UsageError` if the model is too large for one ONNX file, `ModelError` if the folder holds
    no valid model, and `RunError` if `output` cannot be written.
    """
    from bankllm.model.torch_classifier import IntentClassifier

    with _quiet_export():
        if _is_base(folder):
            classifier = IntentClassifier.of_base(base_models.resolve(str(folder)))
        else:
            classifier = IntentClassifier.load(folder, dequantise=True)
    size = sum(tensor.nbytes for tensor in classifier.module.state_dict().values())
    if size > MAX_BYTES:
        raise UsageError(
            f"{folder.name} has weights of {size / 2**30:.1f} GiB in fp32, but one ONNX file can hold only 2 GiB. "
            "Export a classifier with a smaller base model, or serve this classifier with torch."
        )
    with atomic_writer(output) as file:  # opened first, so that an unwritable path fails before the export
        model = _graph(classifier)
        metadata = OnnxMetadata(
            artifact=classifier.artifact,
            tokenizer=classifier.tokenizer.backend_tokenizer.to_str(),
            padding=str(classifier.tokenizer.pad_token),
        )
        model.metadata_props.add(key=METADATA, value=metadata.model_dump_json())
        file.write(model.SerializeToString())
    return output


def cached_export(folder: Path, settings: Settings) -> Path:
    """Return the path of the ONNX file of an artifact folder or of the folder of a base model in `BANKLLM_CACHE`.

    A missing file is exported, which takes seconds. If the cache cannot be written, the file is in a temporary folder
    until this process ends. Raises `ModelError` if the folder holds no model, or if the export fails.
    """
    path = cached_path(f"{_key(folder)}.onnx", settings)
    if path.exists():
        return path
    # In a separate process, because torch and the exporter would stay in the memory of this process.
    command = [sys.executable, "-m", "bankllm", "export", str(folder), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise ModelError(
            f"{folder} could not be exported to ONNX. Correct the cause, or set BANKLLM_INFERENCE=torch. The export "
            f"command reported: {done.stderr.strip()[-2000:]}"
        )
    return path


def _is_base(folder: Path) -> bool:
    return (folder / "config.json").exists() and not (folder / TRAINING_FILE).exists()


def _key(folder: Path) -> str:
    """Return a hash of everything that determines the graph."""
    base = base_models.resolve(str(folder)) if _is_base(folder) else resolve_base(read_artifact(folder), folder.name)
    digest = hashlib.sha256(f"{onnxruntime.__version__} {base.sha256}".encode())
    for path in SOURCES:
        digest.update(path.read_bytes())
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors")):
        digest.update(f"\n{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(sha256_of(path).encode())
    return digest.hexdigest()[:32]


def _graph(classifier: "IntentClassifier") -> Any:
    """Export the classifier as an ONNX model in fp32, for packed texts if the body gives the same results for them."""
    import torch

    from bankllm.model.export_graphs import PackedGraph, PaddedGraph, pack
    from bankllm.model.torch_classifier import tokenise

    batch = tokenise(classifier.tokenizer, EXAMPLE, classifier.artifact.max_length, "pt").to("cpu")
    texts = batch["input_ids"], batch["attention_mask"]
    padded, packed = PaddedGraph(classifier), PackedGraph(classifier)
    graph: torch.nn.Module = padded
    inputs = dict(zip(PADDED_INPUTS, texts, strict=True))
    sizes = {name: {0: "batch", 1: "sequence"} for name in inputs}
    if classifier.artifact.pooling == "mean" and packed.matches(padded, *texts):
        graph, inputs = packed, dict(zip(PACKED_INPUTS, pack(*texts), strict=True))
        sizes = {name: {1: "tokens"} for name in PACKED_INPUTS[:2]}
        sizes |= {"segments": {0: "tokens"}, "lengths": {0: "batch"}}
    with _quiet_export():
        program = torch.onnx.export(
            graph,
            kwargs=inputs,
            input_names=list(inputs),
            output_names=OUTPUTS,
            dynamic_shapes=sizes,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # with `dynamo=True`, export returns a program
    return program.model_proto


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Suppress messages that indicate no problem: torchvision is missing, inputs share axis names, internals."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with quiet_loading(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
            warnings.filterwarnings("ignore", "While compiling, we found certain side effects", UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
