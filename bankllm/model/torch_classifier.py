"""The intent classifier in torch: transformer body, pooling and head. `bankllm.model.artifact` describes its folder."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BatchEncoding, PreTrainedTokenizerBase

from bankllm.errors import ModelError, explained
from bankllm.model import base_models
from bankllm.model.artifact import (
    ADAPTER_FILE,
    BODY_FOLDER,
    HEAD_FILE,
    TRAINING_FILE,
    Classifier,
    ClassifierConfig,
    Scores,
    read_artifact,
    resolve_base,
)
from bankllm.model.denormals import flush_denormals
from bankllm.model.encoder import EncoderWithHead, KernelHead
from bankllm.model.quiet_loading import quiet_loading
from bankllm.model.sentence_pooling import sentence_pooling


class IntentClassifier(Classifier):
    """A classifier in torch. Make one with `load`, or from a trained module."""

    def __init__(
        self, module: EncoderWithHead, tokenizer: PreTrainedTokenizerBase, artifact: ClassifierConfig, device: str
    ) -> None:
        self.module = module.eval()
        self.tokenizer = tokenizer
        self.artifact = artifact
        self.device = device
        self.hidden = module.head.in_features
        self._tokenizing = Lock()  # the tokenizer keeps padding state between calls

    @classmethod
    def load(cls, folder: Path, *, dequantise: bool = False) -> "IntentClassifier":
        """Load an artifact folder. Raises `ModelError` if it is damaged or was trained on another base model.

        `dequantise` converts a base in 4 bits to fp32 and merges the adapter into it, as the ONNX export needs.
        """
        artifact = read_artifact(folder)
        base = resolve_base(artifact, folder.name)
        device = base_models.device()
        body_folder = folder / BODY_FOLDER
        trained = replace(base, location=str(body_folder)) if body_folder.is_dir() else base
        body = load_body(trained, quantised=artifact.quantised, device=device)
        if artifact.quantised and dequantise:
            with quiet_loading():
                body = body.dequantize().float()
        if (folder / ADAPTER_FILE).exists():
            from peft import PeftModel

            fault = f"The adapter of {folder.name} cannot be loaded"
            advice = "Train the classifier again, or copy its folder again."
            with explained(ModelError, fault, advice), quiet_loading():
                warnings.filterwarnings("error", "Found missing adapter keys")
                body = PeftModel.from_pretrained(body, str(folder))
            if dequantise or not artifact.quantised:
                body = body.merge_and_unload()
        module = EncoderWithHead(body, len(artifact.label_names), artifact.pooling, artifact.logit_scale)
        fault = f"{folder.name}/{HEAD_FILE} is damaged or does not match training.json"
        with explained(ModelError, fault, "Train the classifier again."):
            _load_head(module, load_file(folder / HEAD_FILE), artifact)
        module.head.to(device)
        return cls(module, load_tokenizer(base), artifact, device)

    @classmethod
    def of_base(cls, base: base_models.BaseModel) -> "IntentClassifier":
        """Load an embedding model as a classifier without classes, for `Scores.embeddings`.

        Raises `ModelError` if it cannot be loaded, or if `sentence_pooling` does not describe it.
        """
        described = sentence_pooling(Path(base.location))
        if described is None:
            raise ModelError(
                f"The base model {base.name} has more parts than a body and one pooling, so bankllm cannot export it. "
                "Use it with sentence-transformers, as bankllm.vectors does."
            )
        body, tokenizer = load_body(base, quantised=False, device=base_models.device()), load_tokenizer(base)
        limits = [described.max_length or tokenizer.model_max_length]
        if (positions := getattr(body.config, "max_position_embeddings", None) or 0) > 0:
            limits.append(positions)
        artifact = ClassifierConfig(
            label_names=(),
            base_model=base.location,
            base_sha256=base.sha256,
            pooling=described.pooling,
            logit_scale=1.0,
            max_length=min(limits),
            quantised=False,
            method="none",
        )
        with warnings.catch_warnings(action="ignore"):  # the head has no weights to initialise
            module = EncoderWithHead(body, 0, described.pooling, artifact.logit_scale)
        return cls(module.to(body.device), tokenizer, artifact, str(body.device))

    def count_tokens(self, texts: Sequence[str]) -> int:
        return int(tokenise(self.tokenizer, list(texts), self.artifact.max_length, "np")["attention_mask"].sum())

    def run(self, texts: list[str]) -> Scores:
        flush_denormals()
        start = time.perf_counter()
        with self._tokenizing:
            batch = tokenise(self.tokenizer, texts, self.artifact.max_length, "pt")
        tokenise_s = time.perf_counter() - start
        batch = batch.to(self.device)
        with torch.inference_mode():
            vectors = self.module.embed(batch["input_ids"], batch["attention_mask"])
            probabilities = self.module.classify(vectors).softmax(dim=-1)
        return Scores(probabilities.cpu().numpy(), vectors.cpu().numpy(), tokenise_s)

    def save(self, folder: Path) -> None:
        """Write the head, then `training.json`. The training method saves the trained weights of the body before."""
        folder.mkdir(parents=True, exist_ok=True)
        head = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.head.state_dict().items()}
        if isinstance(self.module.head, KernelHead):
            head = {name: tensor.half() for name, tensor in head.items()}
        save_file(head, folder / HEAD_FILE)
        (folder / TRAINING_FILE).write_text(self.artifact.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _load_head(module: EncoderWithHead, tensors: dict[str, Tensor], artifact: ClassifierConfig) -> None:
    """Load the head from `head.safetensors`. Raises `KeyError` or `RuntimeError` if it does not fit."""
    if artifact.kernel_gamma is None:
        module.head.load_state_dict(tensors)
        return
    kernel = KernelHead(tensors["landmarks"], tensors["weight"], tensors["bias"], artifact.kernel_gamma)
    expected = (len(artifact.label_names), len(kernel.landmarks))
    if tuple(kernel.weight.shape) != expected or kernel.in_features != module.head.in_features:
        raise RuntimeError(f"weight of shape {tuple(kernel.weight.shape)}, expected {expected}")
    module.head = kernel


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int, tensors: str) -> BatchEncoding:
    """Return (n, tokens) ids and mask, padded to the longest text, as `pt` (torch) or `np` (NumPy) arrays."""
    encoding: BatchEncoding = tokenizer(
        texts, padding=True, truncation=True, max_length=max_length, return_tensors=tensors
    )
    return encoding


def load_body(base: base_models.BaseModel, *, quantised: bool, device: str, kind: Any = AutoModel) -> Any:
    """Load the base model, in 4 bits if `quantised`, without a head unless `kind` has one.

    On the device `meta` it only checks that the weights have all tensors, without reading them. Raises `ModelError` if
    it cannot be loaded.
    """
    location = base_models.ready_to_load(base)
    options: dict[str, Any] = {"device_map": device} if device == "meta" else {}
    if quantised:
        # By default transformers loads a 4-bit model to the first GPU, and it cannot be moved afterwards.
        options = {"quantization_config": base_models.quantisation_config(), "device_map": {"": device}}
    expected = "Pass a Hugging Face id that is cached or reachable, or a local folder with config.json and weights."
    with explained(ModelError, f"The base model {base.name} cannot be loaded", expected), quiet_loading():
        body, report = kind.from_pretrained(location, output_loading_info=True, **options)
    base_models.check_tensors(base, report["missing_keys"])
    return body if quantised else body.to(device)


def load_tokenizer(base: base_models.BaseModel) -> PreTrainedTokenizerBase:
    """Load the tokenizer. It pads on the right; without a padding token it pads with the end-of-text token."""
    fault = f"The tokenizer of the base model {base.name} cannot be loaded"
    location = base_models.ready_to_load(base)
    with explained(ModelError, fault, "Expected tokenizer.json and tokenizer_config.json beside the weights."):
        tokenizer = AutoTokenizer.from_pretrained(location)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer
