"""One ONNX graph of a trained classifier (backbone, adapter, pooling, head), for `bankllm.model.onnx_classifier`.

    export_onnx(Path("adapters/mine"), Path("mine.onnx"), "int8")

Batch and sequence are dynamic; labels, threshold and tokenizer travel in the file.
"""

import hashlib
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime
import platformdirs

from bankllm.errors import ModelError, UsageError
from bankllm.model import base_models
from bankllm.model.artifact import ClassifierConfig, read_artifact, resolve_base
from bankllm.model.onnx_classifier import METADATA, OUTPUTS, PACKED_INPUTS, PADDED_INPUTS, OnnxMetadata, Precision
from bankllm.settings import Settings
from bankllm.util.atomic_files import atomic_writer

if TYPE_CHECKING:
    from bankllm.model.torch_classifier import IntentClassifier

FORMAT = 4
"""Goes up when what `export_onnx` writes changes, so that kept graphs are made anew."""
MAX_BYTES = 2**31 - 1
"""Protocol buffers, and with them a single ONNX file, end there."""
EXAMPLE = ["my card has not arrived yet", "hello", "where is it?"]
"""Texts of unlike length: the exporter takes an axis of size 1 for a constant."""
TALKATIVE = ("torch.onnx._internal.exporter._registration", "transformers.integrations.bitsandbytes", "root")


def export_onnx(folder: Path, output: Path, precision: Precision = "fp32") -> Path:
    """Write the merged model of an artifact folder as one ONNX file, whole or not at all.

    A base in 4 bits is expanded first. `int8`: the matrices' weights are rounded to 8 bits, each column by a scale
    of its own, and activations when it runs. Raises `UsageError` where the model is too large for one file,
    `ModelError` for a folder that holds no classifier, and `RunError` where `output` cannot be written.
    """
    from bankllm.model.torch_classifier import IntentClassifier

    with _quiet_export():
        classifier = IntentClassifier.load(folder, dequantise=True)
    size = sum(tensor.nbytes for tensor in classifier.module.state_dict().values())
    if size > MAX_BYTES:
        raise UsageError(
            f"{folder.name} has weights of {size / 2**30:.1f} GiB in fp32, and one ONNX file holds 2 GiB. Export a "
            "classifier of a smaller base model, or serve this one as it is."
        )
    with atomic_writer(output) as file:  # first, so that a place that cannot be written is known before the work
        model = _graph(classifier)
        if precision == "int8":
            model = _quantised(model)
        notes = OnnxMetadata(
            artifact=classifier.artifact,
            tokenizer=classifier.tokenizer.backend_tokenizer.to_str(),
            padding=str(classifier.tokenizer.pad_token),
            embedding_length=classifier.embedding_length,
            precision=precision,
        )
        model.metadata_props.add(key=METADATA, value=notes.model_dump_json())
        file.write(model.SerializeToString())
    return output


def exported(folder: Path, precision: Precision, settings: Settings) -> Path:
    """The graph of an artifact folder: the one kept from before, else a new one, made by a process of its own.

    It lies in `BANKLLM_CACHE`, under a name that changes with the artifact, the base model and ONNX Runtime.
    Raises `ModelError` for a folder that holds no classifier, or where the export fails.
    """
    artifact = read_artifact(folder)
    path = _cache_folder(settings) / f"{_key(folder, artifact)}-{precision}.onnx"
    if path.exists():
        return path
    # Torch and the exporter would stay in this process' memory for good.
    command = [sys.executable, "-m", "bankllm", "export", str(folder), str(path), "--precision", precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ModelError(f"{folder} could not be exported to ONNX. {done.stderr.strip()[-2000:]}")
    return path


def _cache_folder(settings: Settings) -> Path:
    return settings.cache or Path(platformdirs.user_cache_dir("bankllm"))


def _key(folder: Path, artifact: ClassifierConfig) -> str:
    """A hash of all that decides what the graph computes."""
    digest = hashlib.sha256(f"{FORMAT} {onnxruntime.__version__} {resolve_base(artifact, folder.name).sha256}".encode())
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors")):
        digest.update(f"\n{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _graph(classifier: "IntentClassifier") -> Any:
    """The classifier as an ONNX model in fp32, with the plain base's embedding where one pass gives both.

    Texts lie packed one behind the other where the model gives the same answers so, and padded to the longest of
    them where it does not.
    """
    import torch
    from onnx_ir.passes.common import CommonSubexpressionEliminationPass, DeduplicateInitializersPass
    from torch import Tensor

    from bankllm.model.export_graphs import PackedGraph, PaddedGraph, pack
    from bankllm.model.low_rank_sharing import share_base_matmul
    from bankllm.model.torch_classifier import tokenise

    batch = tokenise(classifier.tokenizer, EXAMPLE, classifier.artifact.max_length, "pt").to("cpu")
    padded = PaddedGraph(classifier).eval()
    inputs: tuple[Tensor, ...] = (batch["input_ids"], batch["attention_mask"])
    packed = PackedGraph(classifier).eval() if classifier.artifact.pooling == "mean" else None
    graph: PaddedGraph | PackedGraph = padded
    sizes = {name: {0: "batch", 1: "sequence"} for name in PADDED_INPUTS}
    with torch.inference_mode():
        expected = padded(*inputs)
    in_a_row = pack(batch["input_ids"], batch["attention_mask"])
    if packed is not None and packed.gives(expected, *in_a_row):
        graph, inputs = packed, in_a_row
        sizes = {name: {1: "tokens"} for name in PACKED_INPUTS[:2]}
        sizes |= {"segments": {0: "tokens"}, "lengths": {0: "batch"}}
    names = PACKED_INPUTS if graph is packed else PADDED_INPUTS
    with _quiet_export():
        program = torch.onnx.export(
            graph,
            kwargs=dict(zip(names, inputs, strict=True)),
            input_names=names,
            output_names=OUTPUTS[: len(expected)],
            dynamic_shapes=sizes,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # `dynamo=True` gives a program
    # What the adapter left alone in its layers is there twice, computed from the same: once is enough.
    DeduplicateInitializersPass(size_limit=2**32)(program.model)
    CommonSubexpressionEliminationPass()(program.model)
    share_base_matmul(program.model)
    return program.model_proto


def _quantised(model: Any) -> Any:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="bankllm-export-") as folder, _quiet_export():
        rounded = Path(folder) / "int8.onnx"
        # Seven bits: without VNNI, x86 adds pairs of products in 16 bits, which eight-bit weights overflow.
        quantize_dynamic(model, rounded, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
        return onnx.load(str(rounded))


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Without torchvision's absence, axis names that are shared on purpose, and torch's notes on itself."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with base_models.quiet_loading(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
            warnings.filterwarnings("ignore", "While compiling, we found certain side effects", UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
