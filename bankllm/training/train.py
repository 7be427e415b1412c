"""Train an intent classifier: class-mean head, length-grouped batches, a learning rate each for body and head.

result = train(TrainConfig(method="lora", rank=8, epochs=2), load("teller77"), Path("adapters/lora-r8"))

Why so, with figures: a head that starts from class means is nearly right before the first step, and batches of
like lengths spend little on padding (DESIGN.md, decision 1).
"""

import ctypes
import gc
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from bankllm import models
from bankllm.classifier import Artefact, EncoderWithHead, IntentClassifier, load_tokenizer
from bankllm.datasets import Dataset, Split
from bankllm.errors import UsageError
from bankllm.training.adapters import attach_adapter, check_four_bits, count_parameters, load_trainable_body
from bankllm.training.card import check_output, published_name, write_artefact
from bankllm.training.config import TrainConfig
from bankllm.training.split import check_trainable

ENCODE_ROWS = 1024
PROBE_C = 30.0
SAMPLE_S = 0.02


@dataclass(frozen=True, eq=False)
class Frozen:
    """The training texts as the frozen base embeds them; several trainings on one base and data set can share it."""

    vectors: np.ndarray
    """(n, hidden) float32, unit length."""
    seconds: float
    """What embedding them took."""
    made_from: tuple[str | None, str, str, int]
    """Base model's sha256, data set's name, pooling and max length: another training must have the same."""


@dataclass(frozen=True)
class TrainResult:
    """A trained classifier, what it cost, and what it says about the test split."""

    classifier: IntentClassifier
    config: TrainConfig
    device: str
    precision: str
    frozen: Frozen | None
    """Pass it to the next training on the same base and data; None where the method does without."""
    encode_seconds: float
    """Embedding the training texts once with the frozen base; 0 where the method does without. Where `frozen` was
    given, what it took then."""
    seconds: float
    """The optimisation alone: no loading, embedding or testing."""
    rows_seen: int
    """Training texts times epochs."""
    peak_memory_bytes: int
    """Of loading, embedding and training together; see `PeakMemory`."""
    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int
    """Weights on disk, adapter (or body) and head; 0 if nothing was saved."""
    predictions: list[dict[str, object]]
    """A row a test text: `text_id` (position), `actual`, `predicted` (label names), `confidence` (0 … 1)."""


def train(
    config: TrainConfig,
    data: Dataset,
    output: Path | None = None,
    progress: bool = True,
    frozen: Frozen | None = None,
) -> TrainResult:
    """Train on `data.train`, then classify `data.test` once; with `output`, leave an artefact folder there.

    `frozen` (of an earlier result) spares embedding the training texts again. QLoRA may take those of the base in
    full precision: they only decide where its head starts.
    Raises `DataError` for data that cannot be learnt from, `UsageError` for a configuration that does not fit the
    model or machine, `NotMeasured` where QLoRA cannot run, and `RunError` where `output` cannot be written.
    """
    with models.quiet_loading():
        from bankllm.training.loop import fit  # here, so that the memory of imports is not the training's

    check_trainable(data)
    if output is not None:
        check_output(output)
    device = models.device()
    precision = _precision(config, device)
    if config.method == "qlora":
        check_four_bits(device)
    torch.manual_seed(config.seed)  # adapters and a random head; Trainer seeds the rest
    with PeakMemory(device) as memory:
        classifier = _untrained(config, data, device)
        if config.method == "probe" or config.head_init == "class-means":
            frozen = _encode(classifier, data, progress, frozen)
        else:
            frozen = None
        if config.method == "probe" and frozen is not None:
            seconds = _fit_probe(classifier.module.head, frozen.vectors, data.train, config.seed)
        else:
            if frozen is not None:
                _start_from_class_means(classifier.module.head, frozen.vectors, data.train)
            if config.adapts:
                body = attach_adapter(classifier.module.body, config, published_name(config.base_model))
                classifier.module.body = body
            seconds = fit(classifier, config, data.train, precision, progress)
    predictions = _predict(classifier, data)
    right = sum(row["predicted"] == row["actual"] for row in predictions)
    trainable, total = count_parameters(classifier.module)
    return TrainResult(
        classifier=classifier,
        config=config,
        device=device,
        precision=precision,
        frozen=frozen,
        encode_seconds=frozen.seconds if frozen else 0.0,
        seconds=seconds,
        rows_seen=len(data.train) * (1 if config.method == "probe" else config.epochs),
        peak_memory_bytes=memory.peak_bytes,
        trainable_parameters=trainable,
        total_parameters=total,
        adapter_bytes=0 if output is None else write_artefact(classifier, output, right, len(predictions)),
        predictions=predictions,
    )


def _precision(config: TrainConfig, device: str) -> str:
    if device == "cpu" and config.precision == "fp16":
        raise UsageError("fp16 cannot be trained on a CPU. Set precision to auto (fp32 here), or use a GPU.")
    return models.precision(device) if config.precision == "auto" else config.precision


def _untrained(config: TrainConfig, data: Dataset, device: str) -> IntentClassifier:
    base = models.resolve(config.base_model)
    body = load_trainable_body(base, config, device)
    # Logistic regression finds its own scale.
    logit_scale = 1.0 if config.method == "probe" else config.logit_scale
    module = EncoderWithHead(body, len(data.label_names), config.pooling, logit_scale)
    module.head.to(device)
    artefact = Artefact(
        label_names=data.label_names,
        base_model=config.base_model,
        base_sha256=base.sha256,
        pooling=config.pooling,
        logit_scale=logit_scale,
        max_length=config.max_length,
        quantised=config.method == "qlora",
        method=config.method,
        threshold=config.threshold,
        training={**data.conditions(), "config": config.model_dump(mode="json")},
    )
    return IntentClassifier(module, load_tokenizer(base), artefact, device)


def _encode(classifier: IntentClassifier, data: Dataset, progress: bool, frozen: Frozen | None) -> Frozen:
    """Embed the training texts with the frozen base, or check that what was given is of the same making."""
    artefact = classifier.artefact
    made_from = (artefact.base_sha256, data.name, artefact.pooling, artefact.max_length)
    if frozen is not None:
        if frozen.made_from != made_from:
            raise UsageError(
                f"The frozen embeddings are of {frozen.made_from}, this training needs {made_from} (base model, data "
                "set, pooling, max_length). Leave `frozen` out, and they are computed."
            )
        return frozen
    _keep_four_bits_trainable(classifier.module.body)
    texts = data.train.texts
    start = time.perf_counter()
    starts = tqdm(range(0, len(texts), ENCODE_ROWS), desc="embed", leave=False, disable=not progress)
    blocks = [classifier.score(texts[i : i + ENCODE_ROWS]).embeddings for i in starts]
    return Frozen(np.concatenate(blocks), time.perf_counter() - start, made_from)


def _keep_four_bits_trainable(body: nn.Module) -> None:
    """On some CPUs a 4-bit layer in eval mode repacks its weights for inference, and has no gradient ever after."""
    for layer in body.modules():
        if isinstance(layer, nn.Linear) and hasattr(layer.weight, "quant_state"):
            layer.train()


def _fit_probe(head: nn.Linear, embeddings: np.ndarray, split: Split, seed: int) -> float:
    """Multinomial logistic regression, copied into the head; returns the seconds it took."""
    start = time.perf_counter()
    probe = LogisticRegression(C=PROBE_C, max_iter=2000, random_state=seed).fit(embeddings, split.labels)
    weight, bias = probe.coef_, probe.intercept_
    if len(probe.classes_) == 2:  # then scikit-learn keeps one row, the second class against the first
        weight, bias = np.vstack([0 * weight, weight]), np.append(0 * bias, bias)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return time.perf_counter() - start


def _start_from_class_means(head: nn.Linear, embeddings: np.ndarray, split: Split) -> None:
    """Each row of the head becomes its class's mean embedding, at unit length: a nearest-centroid classifier."""
    vectors, labels = torch.from_numpy(embeddings), torch.tensor(split.labels)
    sums = torch.zeros(head.weight.shape).index_add_(0, labels, vectors)
    with torch.no_grad():
        head.weight.copy_(functional.normalize(sums, dim=-1))
        head.bias.zero_()


def _predict(classifier: IntentClassifier, data: Dataset) -> list[dict[str, object]]:
    probabilities = classifier.score(data.test.texts).probabilities
    return [
        {
            "text_id": text_id,
            "actual": data.label_names[actual],
            "predicted": data.label_names[row.argmax()],
            "confidence": float(row.max()),
        }
        for text_id, (actual, row) in enumerate(zip(data.test.labels, probabilities, strict=True))
    ]


class PeakMemory:
    """`with PeakMemory("cpu") as memory: …`, then `memory.peak_bytes`.

    The peak above the level before: on a CPU of resident memory, sampled every 20 ms; on a GPU of what torch allocated.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.peak_bytes = 0
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        _release_freed_memory()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self._level = torch.cuda.memory_allocated()
        else:
            self._process = psutil.Process()
            self._level = self._process.memory_info().rss
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated() - self._level
        else:
            self._done.set()
            self._sampler.join()

    def _sample(self) -> None:
        finished = False
        while not finished:  # so that the last sample comes after the work
            finished = self._done.wait(SAMPLE_S)
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss - self._level)


def _release_freed_memory() -> None:
    """Give back what earlier work freed: glibc keeps it, and a second training in a process would look free."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
        if trim is not None:
            trim(0)
