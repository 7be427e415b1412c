"""The intent classifier that `training` makes, in torch: a transformer body, pooling, a head.

`bankllm.model.artifact` says what lies in its folder; `bankllm.model.onnx_classifier` runs the same one without torch.
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
from bankllm.model.encoder import EncoderWithHead, KernelHead, PlainUpperLayers, layer_list


class IntentClassifier:
    """Texts in, probabilities and embeddings out. Make one with `load`, or from a freshly trained module."""

    def __init__(
        self,
        module: EncoderWithHead,
        tokenizer: PreTrainedTokenizerBase,
        artifact: ClassifierConfig,
        device: str,
        plain: PlainUpperLayers | None = None,
    ) -> None:
        self.module = module.eval()
        self.plain = plain
        self.tokenizer = tokenizer
        self.artifact = artifact
        self.device = device
        self.variant = ""

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.artifact.label_names

    @property
    def shares_base_embedding(self) -> bool:
        """Whether `Scores.base_embeddings` are there: mean-pooled, so that search can use them as they are."""
        return self.artifact.is_base_embedding or self.plain is not None

    @classmethod
    def load(cls, folder: Path, *, dequantise: bool = False) -> "IntentClassifier":
        """Load an artifact folder. Raises `ModelError` if it is damaged or made for another base model.

        `dequantise` expands a base in 4 bits to fp32 and merges the adapter into it, so that plain layers remain.
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
        plain = None
        if (folder / ADAPTER_FILE).exists():
            if artifact.pooling == "mean" and not artifact.quantised:
                plain = _plain_upper_layers(body, folder, device)
            with base_models.quiet_loading():
                from peft import PeftModel

                body = PeftModel.from_pretrained(body, str(folder))
            if dequantise or not artifact.quantised:
                body = body.merge_and_unload()
        module = EncoderWithHead(body, len(artifact.label_names), artifact.pooling, artifact.logit_scale)
        try:
            _load_head(module, load_file(folder / HEAD_FILE), artifact)
        except (OSError, RuntimeError, KeyError, SafetensorError) as error:
            raise ModelError(f"{folder.name}/{HEAD_FILE} does not fit training.json ({error}). Train again.") from error
        module.head.to(device)
        return cls(module, load_tokenizer(base), artifact, device, plain)

    def predict(self, texts: Sequence[str], batch_size: int = 64) -> list[Prediction]:
        """The likeliest intent of each text, in order. Raises `UsageError` for an item that is no string."""
        return predictions(self.artifact, self._score(texts, batch_size, plain=None))

    def score(self, texts: Sequence[str], batch_size: int = 64) -> Scores:
        """Probabilities and embeddings of n texts. Raises `UsageError` for an item that is no string."""
        return self._score(texts, batch_size, self.plain)

    @cached_property
    def embedding_length(self) -> int:
        """Tokens that the plain base model's embedding reads; the classifier may read fewer."""
        positions = getattr(self.module.body.config, "max_position_embeddings", self.artifact.max_length)
        stated = base_models.sentence_length(base_models.resolve(self.artifact.base_model))
        return min(stated or self.tokenizer.model_max_length, positions)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens that the encoder reads of these texts, special ones included."""
        return int(tokenise(self.tokenizer, list(texts), self.artifact.max_length, "np")["attention_mask"].sum())

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The plain base model's (n, hidden) unit-length embeddings; only where `shares_base_embedding`."""
        run = partial(self._run, plain_layers=self.plain, max_length=self.embedding_length)
        hidden = self.module.head.in_features
        scores = score_in_batches(texts, run, len(self.label_names), hidden, batch_size=16)
        return scores.embeddings if scores.base_embeddings is None else scores.base_embeddings

    @cached_property
    def embedding_tokenise(self) -> base_models.Tokenise | None:
        """What `embed` reads of texts; None where no fast tokenizer tells it."""
        return base_models.tokeniser(self.tokenizer, self.embedding_length)

    def _score(self, texts: Sequence[str], batch_size: int, plain: PlainUpperLayers | None) -> Scores:
        """Without the plain base's layers there are no embeddings of it, and a third of the time is saved."""
        run = partial(self._run, plain_layers=plain)
        return score_in_batches(texts, run, len(self.label_names), self.module.head.in_features, batch_size=batch_size)

    def _run(self, texts: list[str], plain_layers: PlainUpperLayers | None, max_length: int | None = None) -> Scores:
        start = time.perf_counter()
        batch = tokenise(self.tokenizer, texts, max_length or self.artifact.max_length, "pt")
        tokenise_s = time.perf_counter() - start
        batch = batch.to(self.device)
        inputs, module = (batch["input_ids"], batch["attention_mask"]), self.module
        with torch.inference_mode():
            if plain_layers is None:
                vectors = module.embed(*inputs)
                plain = vectors if self.artifact.is_base_embedding else None
            else:
                states = plain_layers.hidden(module.body, input_ids=inputs[0], attention_mask=inputs[1])
                vectors, plain = (module.pool(hidden, inputs[1]) for hidden in states)
            probabilities = module.classify(vectors).softmax(dim=-1)
        base = None if plain is None else plain.cpu().numpy()
        return Scores(probabilities.cpu().numpy(), vectors.cpu().numpy(), base, tokenise_s)

    def save(self, folder: Path) -> None:
        """Write the artifact; `training.json` comes last, so that a folder without it is known to be incomplete."""
        folder.mkdir(parents=True, exist_ok=True)
        body = self.module.body
        if hasattr(body, "peft_config"):
            # "auto" would ask the Hub whether the vocabulary grew.
            body.save_pretrained(str(folder), save_embedding_layers=False)  # type: ignore[operator]
        elif self.artifact.method == "full":
            with base_models.quiet_loading():
                body.save_pretrained(str(folder / BODY_FOLDER))  # type: ignore[operator]
        head = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.head.state_dict().items()}
        if isinstance(self.module.head, KernelHead):
            head = {name: tensor.half() for name, tensor in head.items()}
        save_file(head, folder / HEAD_FILE)
        (folder / TRAINING_FILE).write_text(self.artifact.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _plain_upper_layers(body: Any, folder: Path, device: str) -> PlainUpperLayers | None:
    """The layers that the adapter is going to change, as they are now; None where it changes the lowest, too."""
    try:
        targets = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))["target_modules"]
    except (ValueError, KeyError):
        return None  # PEFT reads it next, and says what is wrong with it
    where, layers = layer_list(body)
    numbers = [re.match(rf"{re.escape(where)}\.(\d+)\.", str(target)) for target in targets]
    adapted = [int(number[1]) for number in numbers if number]
    if not adapted or len(adapted) < len(numbers) or not 0 < min(adapted) < len(layers):
        return None
    plain = PlainUpperLayers(body, min(adapted))
    ids = torch.ones(1, 2, dtype=torch.long, device=device)
    with torch.inference_mode():
        return plain if plain.fits(body.eval(), ids, ids) else None


def _load_head(module: EncoderWithHead, tensors: dict[str, Tensor], artifact: ClassifierConfig) -> None:
    """Raises `KeyError` or `RuntimeError` where the tensors do not fit."""
    if artifact.kernel_gamma is None:
        module.head.load_state_dict(tensors)
        return
    kernel = KernelHead(tensors["landmarks"], tensors["weight"], tensors["bias"], artifact.kernel_gamma)
    expected = (len(artifact.label_names), len(kernel.landmarks))
    if tuple(kernel.weight.shape) != expected or kernel.in_features != module.head.in_features:
        raise RuntimeError(f"weight of shape {tuple(kernel.weight.shape)}, expected {expected}")
    module.head = kernel


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int, tensors: str) -> BatchEncoding:
    """(n, tokens) ids and mask as `pt` or `np`, padded to the longest text and cut at `max_length`."""
    return tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors=tensors)


def load_body(base: base_models.BaseModel, *, quantised: bool, device: str) -> Any:
    """The base model without a head, in 4 bits if asked. Raises `ModelError` where it cannot be loaded."""
    options: dict[str, Any] = {}
    if quantised:  # transformers puts 4 bits on the first GPU unless told otherwise, and they do not move afterwards
        options = {"quantization_config": base_models.quantisation_config(), "device_map": {"": device}}
    try:
        with base_models.quiet_loading():
            body = AutoModel.from_pretrained(base.location, **options)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The base model {base.name} cannot be loaded ({str(error).splitlines()[0]}). Expected a Hugging Face id "
            "that is cached or reachable, or a local folder with config.json and weights."
        ) from error
    return body if quantised else body.to(device)


def load_tokenizer(base: base_models.BaseModel) -> PreTrainedTokenizerBase:
    """The tokenizer; decoders without a padding token pad with their end-of-text token, on the right."""
    tokenizer = AutoTokenizer.from_pretrained(base.location)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer
