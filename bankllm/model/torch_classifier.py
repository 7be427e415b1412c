"""The intent classifier in torch: transformer body, pooling and head. `bankllm.training` makes it.

`bankllm.model.artifact` describes its folder. `bankllm.model.onnx_classifier` runs the same classifier without torch.
"""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BatchEncoding, PreTrainedTokenizerBase

from bankllm.errors import ModelError
from bankllm.model import base_models
from bankllm.model.artifact import (
    ADAPTER_FILE,
    BODY_FOLDER,
    HEAD_FILE,
    TRAINING_FILE,
    ClassifierConfig,
    Prediction,
    Scores,
    predictions,
    read_artifact,
    resolve_base,
    score_in_batches,
)
from bankllm.model.encoder import BaseUpperLayers, EncoderWithHead, KernelHead, layer_list


class IntentClassifier:
    """A `Classifier` in torch: texts → probabilities and embeddings. Make one with `load`, or from a trained module.

    `base_layers` are the upper layers of the base model without adapter. With them, `score` also returns the
    embeddings of the base model.
    """

    def __init__(
        self,
        module: EncoderWithHead,
        tokenizer: PreTrainedTokenizerBase,
        artifact: ClassifierConfig,
        device: str,
        base_layers: BaseUpperLayers | None = None,
    ) -> None:
        self.module = module.eval()
        self.base_layers = base_layers
        self.tokenizer = tokenizer
        self.artifact = artifact
        self.device = device
        self.variant = ""

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.artifact.label_names

    @property
    def shares_base_embedding(self) -> bool:
        """Whether `score` returns `base_embeddings`. They are mean-pooled, so vector search can use them directly."""
        return self.artifact.is_base_embedding or self.base_layers is not None

    @classmethod
    def load(cls, folder: Path, *, dequantise: bool = False) -> "IntentClassifier":
        """Load an artifact folder. Raises `ModelError` if it is damaged or was trained on another base model.

        `dequantise` converts a base in 4 bits to fp32 and merges the adapter into it, so that all layers are ordinary
        fp32 layers. The ONNX export needs this.
        """
        artifact = read_artifact(folder)
        base = resolve_base(artifact, folder.name)
        device = base_models.device()
        body_folder = folder / BODY_FOLDER
        trained = replace(base, location=str(body_folder)) if body_folder.is_dir() else base
        body = load_body(trained, quantised=artifact.quantised, device=device)
        if artifact.quantised and dequantise:
            with base_models.quiet_loading():
                body = body.dequantize().float()
        base_layers = None
        if (folder / ADAPTER_FILE).exists():
            if artifact.pooling == "mean" and not artifact.quantised:
                base_layers = _base_upper_layers(body, folder, device)
            with base_models.quiet_loading():
                from peft import PeftModel

                body = PeftModel.from_pretrained(body, str(folder))
            if dequantise or not artifact.quantised:
                body = body.merge_and_unload()
        module = EncoderWithHead(body, len(artifact.label_names), artifact.pooling, artifact.logit_scale)
        try:
            _load_head(module, load_file(folder / HEAD_FILE), artifact)
        except (OSError, RuntimeError, KeyError, SafetensorError) as error:
            raise ModelError(
                f"{folder.name}/{HEAD_FILE} is damaged or does not match training.json ({error}). Train the classifier "
                "again."
            ) from error
        module.head.to(device)
        return cls(module, load_tokenizer(base), artifact, device, base_layers)

    def predict(self, texts: Sequence[str], batch_size: int = 64) -> list[Prediction]:
        """Return the most probable intent of each text, in order. Raises `UsageError` if an item is not a string."""
        return predictions(self.artifact, self._score(texts, batch_size, base_layers=None))

    def score(self, texts: Sequence[str], batch_size: int = 64) -> Scores:
        """Return probabilities and embeddings of n texts. Raises `UsageError` if an item is not a string."""
        return self._score(texts, batch_size, self.base_layers)

    @cached_property
    def embedding_length(self) -> int:
        """Maximum tokens per text for base-model embeddings; the classifier may read fewer."""
        positions = getattr(self.module.body.config, "max_position_embeddings", self.artifact.max_length)
        stated = base_models.sentence_length(base_models.resolve(self.artifact.base_model))
        return min(stated or self.tokenizer.model_max_length, positions)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens that the encoder reads for these texts, including special tokens."""
        return int(tokenise(self.tokenizer, list(texts), self.artifact.max_length, "np")["attention_mask"].sum())

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the unit-length base-model embeddings, (n, hidden). Valid only if `shares_base_embedding` is true."""
        run = partial(self._run, base_layers=self.base_layers, max_length=self.embedding_length)
        hidden = self.module.head.in_features
        scores = score_in_batches(texts, run, len(self.label_names), hidden, batch_size=16)
        return scores.embeddings if scores.base_embeddings is None else scores.base_embeddings

    @cached_property
    def embedding_tokenise(self) -> base_models.Tokenise | None:
        """The tokenizer function of `embed`; None if the model has no fast tokenizer."""
        return base_models.tokeniser(self.tokenizer, self.embedding_length)

    def _score(self, texts: Sequence[str], batch_size: int, base_layers: BaseUpperLayers | None) -> Scores:
        """Score texts. Without `base_layers` there are no base embeddings, and the call takes a third less time."""
        run = partial(self._run, base_layers=base_layers)
        return score_in_batches(texts, run, len(self.label_names), self.module.head.in_features, batch_size=batch_size)

    def _run(self, texts: list[str], base_layers: BaseUpperLayers | None, max_length: int | None = None) -> Scores:
        start = time.perf_counter()
        batch = tokenise(self.tokenizer, texts, max_length or self.artifact.max_length, "pt")
        tokenise_s = time.perf_counter() - start
        batch = batch.to(self.device)
        inputs, module = (batch["input_ids"], batch["attention_mask"]), self.module
        with torch.inference_mode():
            if base_layers is None:
                vectors = module.embed(*inputs)
                base_vectors = vectors if self.artifact.is_base_embedding else None
            else:
                states = base_layers.hidden(module.body, input_ids=inputs[0], attention_mask=inputs[1])
                vectors, base_vectors = (module.pool(hidden, inputs[1]) for hidden in states)
            probabilities = module.classify(vectors).softmax(dim=-1)
        base = None if base_vectors is None else base_vectors.cpu().numpy()
        return Scores(probabilities.cpu().numpy(), vectors.cpu().numpy(), base, tokenise_s)

    def save(self, folder: Path) -> None:
        """Write the artifact folder. `training.json` is written last, so a folder without it is incomplete."""
        folder.mkdir(parents=True, exist_ok=True)
        body = self.module.body
        if hasattr(body, "peft_config"):
            # With "auto", PEFT would ask the Hub whether the vocabulary of the base model has grown.
            body.save_pretrained(str(folder), save_embedding_layers=False)  # type: ignore[operator]
        elif self.artifact.method == "full":
            with base_models.quiet_loading():
                body.save_pretrained(str(folder / BODY_FOLDER))  # type: ignore[operator]
        head = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.head.state_dict().items()}
        if isinstance(self.module.head, KernelHead):
            head = {name: tensor.half() for name, tensor in head.items()}
        save_file(head, folder / HEAD_FILE)
        (folder / TRAINING_FILE).write_text(self.artifact.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _base_upper_layers(body: Any, folder: Path, device: str) -> BaseUpperLayers | None:
    """Copy the layers that the adapter will change. `body` must not have the adapter yet.

    Returns None if the base embeddings cannot be computed from the copy: the adapter also changes the lowest layer or
    weights outside the layers, or another module follows the last layer.
    """
    try:
        targets = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))["target_modules"]
    except (ValueError, KeyError):
        return None  # PEFT reads the file next and reports the error
    where, layers = layer_list(body)
    numbers = [re.match(rf"{re.escape(where)}\.(\d+)\.", str(target)) for target in targets]
    adapted = [int(number[1]) for number in numbers if number]
    if not adapted or len(adapted) < len(numbers) or not 0 < min(adapted) < len(layers):
        return None
    base_layers = BaseUpperLayers(body, min(adapted))
    ids = torch.ones(1, 2, dtype=torch.long, device=device)
    with torch.inference_mode():
        return base_layers if base_layers.matches(body.eval(), ids, ids) else None


def _load_head(module: EncoderWithHead, tensors: dict[str, Tensor], artifact: ClassifierConfig) -> None:
    """Load the head from the tensors of `head.safetensors`. Raises `KeyError` or `RuntimeError` if they do not fit."""
    if artifact.kernel_gamma is None:
        module.head.load_state_dict(tensors)
        return
    kernel = KernelHead(tensors["landmarks"], tensors["weight"], tensors["bias"], artifact.kernel_gamma)
    expected = (len(artifact.label_names), len(kernel.landmarks))
    if tuple(kernel.weight.shape) != expected or kernel.in_features != module.head.in_features:
        raise RuntimeError(f"weight of shape {tuple(kernel.weight.shape)}, expected {expected}")
    module.head = kernel


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int, tensors: str) -> BatchEncoding:
    """Return (n, tokens) ids and attention mask, padded to the longest text and truncated at `max_length` tokens.

    `tensors` is the type of the arrays: `pt` (torch) or `np` (NumPy).
    """
    return tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors=tensors)


def load_body(base: base_models.BaseModel, *, quantised: bool, device: str) -> Any:
    """Load the base model without a head, in 4 bits if `quantised`. Raises `ModelError` if it cannot be loaded."""
    options: dict[str, Any] = {}
    if quantised:
        # By default transformers loads a 4-bit model to the first GPU, and it cannot be moved afterwards.
        options = {"quantization_config": base_models.quantisation_config(), "device_map": {"": device}}
    try:
        with base_models.quiet_loading():
            body = AutoModel.from_pretrained(base.location, **options)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The base model {base.name} cannot be loaded ({str(error).splitlines()[0]}). Pass a Hugging Face id that "
            "is cached or reachable, or a local folder with config.json and weights."
        ) from error
    return body if quantised else body.to(device)


def load_tokenizer(base: base_models.BaseModel) -> PreTrainedTokenizerBase:
    """Load the tokenizer. It pads on the right; without a padding token it pads with the end-of-text token."""
    tokenizer = AutoTokenizer.from_pretrained(base.location)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer
