"""Train an intent classifier and save it.

result = train(TrainConfig(method="lora", rank=8, epochs=2), load("teller77"), Path("adapters/lora-r8"))
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bankllm.datasets import Dataset
from bankllm.errors import ModelError, RunError, UsageError
from bankllm.model import base_models
from bankllm.model.artifact import ClassifierConfig
from bankllm.model.denormals import flush_denormals
from bankllm.model.encoder import EncoderWithHead
from bankllm.model.torch_classifier import IntentClassifier, load_body, load_tokenizer
from bankllm.training import cached_layers, head, trainer
from bankllm.training.artifact_records import Costs
from bankllm.training.cached_layers import CachedPrefix, FrozenCache, FrozenEmbeddings
from bankllm.training.checkpoint import Checkpoint, made_from
from bankllm.training.config import TrainConfig
from bankllm.training.memory import PeakMemory
from bankllm.training.methods import METHODS, POOLER
from bankllm.training.model_card import check_output, write_artifact
from bankllm.training.split import check_trainable

Rows = Iterable[Mapping[str, object]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    classifier: IntentClassifier
    config: TrainConfig
    costs: Costs
    predictions: list[dict[str, object]]
    """One row per test text: `text_id` (position), `actual`, `predicted` (label names), `confidence` (0 … 1)."""
    curve: list[dict[str, float]]
    """One row per evaluation during the training: `examples` (texts seen so far), `seconds` of optimisation so far,
    `accuracy` on the test split (0 … 1)."""


def train(
    config: TrainConfig,
    data: Dataset,
    output: Path | None = None,
    progress: bool = True,
    checkpoint: Path | None = None,
    curve: int = 0,
    evaluate: Callable[[TrainResult], Rows] | None = None,
    frozen: FrozenCache | None = None,
) -> TrainResult:
    """Train on `data.train`, then classify `data.test` once.

    - `output`: folder in which the artifact is saved; None saves nothing.
    - `checkpoint`: file for the state after each epoch. A call with the same file, configuration and data resumes after
      the last epoch. Delete the file after the result has been saved.
    - `curve`: number of evaluations on `data.test` per epoch. Use it only with `split_validation(data)`.
    - `evaluate`: returns rows that become `rows.csv` in the artifact.
    - `frozen`: shared by trainings, so that each frozen base model runs only once per text.

    Raises `DataError` if `data` has fewer than two labels or a label without training text, `UsageError` if the
    configuration does not suit the model, the machine or the checkpoint, `NotMeasured` if the method cannot run on this
    machine, `ModelError` if memory is insufficient or the training diverges, and `RunError` if `output` cannot be
    written.
    """
    method, device = METHODS.get(config.method), base_models.device()
    check_trainable(data)
    flush_denormals()
    if output is not None:
        check_output(output)
    if device == "cpu" and config.precision == "fp16":
        raise UsageError("Training in fp16 is not possible on a CPU. Set precision to auto (fp32 here), or use a GPU.")
    precision = base_models.precision(device) if config.precision == "auto" else config.precision
    method.check(device)
    saved = None
    if checkpoint and method.trains_body:
        base_sha256 = base_models.resolve(config.base_model).sha256
        saved = Checkpoint(checkpoint, {**made_from(config, data), "base_sha256": base_sha256})
    torch.manual_seed(config.seed)
    with _out_of_memory_explained(config), PeakMemory(device) as memory:
        run = _Run(
            config, data, untrained(config, data, device), memory, progress, curve, saved, frozen or FrozenCache()
        )
        with run.cached:
            run.start_head()
            if method.trains_body:
                run.fit(precision)
            if config.head == "kernel":
                run.fit_kernel_head()
            peak = run.peak_bytes()
            predictions = _predict(run.classifier, data)
    classifier = run.classifier
    texts = [*data.train.texts, *data.test.texts]
    lengths = classifier.tokenizer(texts, truncation=False, verbose=False, return_length=True)["length"]
    parameters = [(count_weights(weights), weights.requires_grad) for weights in classifier.module.parameters()]
    costs = Costs(
        device=device,
        precision=precision,
        encode_seconds=run.encode_seconds,
        seconds=run.clock.seconds,
        rows_seen=config.rows_seen(len(data.train)) if method.trains_body else len(data.train),
        truncated=sum(length > config.max_length for length in lengths),
        peak_memory_bytes=peak,
        trainable_parameters=sum(size for size, trainable in parameters if trainable),
        total_parameters=sum(size for size, _ in parameters),
        adapter_bytes=0,
    )
    result = TrainResult(classifier, config, costs, predictions, run.curve)
    if output is not None:
        with run.cached:
            rows = evaluate(result) if evaluate else None
        result = replace(result, costs=write_artifact(classifier, output, result.predictions, costs, rows))
    return result


@dataclass(eq=False)
class _Run:
    """The steps of one training (start the head, optimise, fit the kernel head) and its running costs."""

    config: TrainConfig
    data: Dataset
    classifier: IntentClassifier
    memory: PeakMemory
    progress: bool
    evaluations: int
    saved: Checkpoint | None
    cache: FrozenCache
    frozen: FrozenEmbeddings | None = None
    """The training texts embedded by the frozen base model, if they were needed."""
    curve: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trains_body = METHODS.get(self.config.method).trains_body
        self.layers, states = self.cache.prefix(self.classifier)
        self.cached = CachedPrefix(self.classifier.module.body, self.layers, states)
        # Bytes that another training computed: in memory before `PeakMemory` started. They are never on a GPU.
        self.shared_bytes = sum(hidden.nbytes for hidden in states.values()) if self.trains_body else 0
        self.before: dict[str, Any] = (self.saved.state if self.saved else None) or {}
        self.clock = trainer.Stopwatch(self.before.get("seconds", 0.0))
        self.encode_seconds: float = self.before.get("encode_seconds", 0.0)

    def start_head(self) -> None:
        """Embed the training texts with the frozen base, if needed, and start the linear head from them."""
        config, split, linear = self.config, self.data.train, self.classifier.module.head
        starts = not self.before and not (self.trains_body and config.head_init == "random")
        if not (starts or self.layers):
            return
        others = list(self.cache.embeddings.values())
        self.frozen = cached_layers.embed_frozen(self.classifier, split, self.progress, self.layers, self.cache)
        self.encode_seconds = self.encode_seconds or self.frozen.seconds
        self.shared_bytes += self.frozen.vectors.nbytes if self.frozen in others else 0
        if not (starts and (self.trains_body or config.head == "linear")):
            return
        assert isinstance(linear, nn.Linear)  # the kernel head is fitted after the training
        if self.frozen.probe is None:
            with trainer.Stopwatch() as clock:
                self.frozen.probe = head.fit_probe(self.frozen.vectors, split)
            self.frozen.probe_seconds = clock.seconds
        self.clock.seconds += self.frozen.probe_seconds
        weight, bias = map(torch.from_numpy, self.frozen.probe)
        with torch.no_grad():
            linear.weight.copy_(weight / self.classifier.module.logit_scale)  # it multiplies the embeddings
            linear.bias.copy_(bias)

    def fit(self, precision: str) -> None:
        trainer.fit(
            self.classifier,
            self.config,
            self.data.train,
            precision,
            self.clock,
            resume=self.before,
            save=self._save if self.saved else None,
            evaluate=self._evaluate,
            evaluations=self.evaluations,
            progress=self.progress,
        )
        self.classifier.module.eval()

    def fit_kernel_head(self) -> None:
        """Fit a kernel head on the current embeddings of the training texts. It replaces the linear head."""
        config, classifier, split = self.config, self.classifier, self.data.train
        with self.clock:
            if self.frozen and not self.trains_body:
                vectors = self.frozen.vectors
            else:
                vectors = classifier.score(split.texts, progress=self.progress).embeddings
            kernel, scale = head.fit_kernel_head(
                vectors, split, len(self.data.label_names), config.kernel_gamma, config.kernel_ridge, config.seed
            )
        classifier.module.head, classifier.module.logit_scale = kernel.to(classifier.device), scale
        changes = {"kernel_gamma": config.kernel_gamma, "logit_scale": scale}
        classifier.artifact = classifier.artifact.model_copy(update=changes)
        if self.evaluations:
            self._evaluate(config.rows_seen(len(split)))
            classifier.module.eval()

    def peak_bytes(self) -> int:
        """Peak memory so far, including the peak before an interruption."""
        shared = 0 if self.memory.on_gpu else self.shared_bytes
        return max(self.memory.peak() + shared, int(self.before.get("peak_memory_bytes", 0)))

    def _save(self, state: dict[str, Any]) -> None:
        costs = {"seconds": self.clock.seconds, "encode_seconds": self.encode_seconds}
        assert self.saved is not None
        try:
            self.saved.save({**state, **costs, "peak_memory_bytes": self.peak_bytes()})
        except RunError as error:
            logger.warning("The training goes on without a checkpoint of epoch %d: %s", state["epochs"], error)

    def _evaluate(self, examples: int) -> None:
        module = self.classifier.module.eval()
        cached_layers.keep_four_bits_trainable(module)
        probabilities = self.classifier.score(self.data.test.texts).probabilities
        module.train()
        accuracy = float(np.mean(probabilities.argmax(axis=1) == np.array(self.data.test.labels)))
        self.curve.append({"examples": examples, "seconds": self.clock.seconds, "accuracy": accuracy})


@contextmanager
def _out_of_memory_explained(config: TrainConfig) -> Iterator[None]:
    """Replace torch's out-of-memory message, which describes allocators, by the settings that reduce memory."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise ModelError(
            f"Out of memory while training {config.method} on {config.base_model} with batch_size={config.batch_size}, "
            f"max_length={config.max_length}, gradient_checkpointing={config.gradient_checkpointing}. Lower batch_size "
            "or max_length, or set gradient_checkpointing=True. Method qlora needs less memory for the weights."
        ) from error


def untrained(config: TrainConfig, data: Dataset, device: str) -> IntentClassifier:
    """Build the classifier before the training: prepared body, random linear head and tokenizer, on `device`."""
    base, method = base_models.resolve(config.base_model), METHODS.get(config.method)
    body = load_body(base, quantised=method.quantised, device=device)
    _set_dropout(body, config.dropout)
    if config.gradient_checkpointing:
        body.gradient_checkpointing_enable({"use_reentrant": False})
    if not method.quantised:
        body = (body.float() if device == "cpu" else body).requires_grad_(False)
    body = method.prepare(body, config)
    for name, weights in body.named_parameters():
        weights.requires_grad &= POOLER not in name.split(".")  # it would never get a gradient
    module = EncoderWithHead(body, len(data.label_names), config.pooling, config.logit_scale)
    module.head.to(device)
    artifact = ClassifierConfig(
        label_names=data.label_names,
        base_model=config.base_model,
        base_sha256=base.sha256,
        pooling=config.pooling,
        logit_scale=config.logit_scale,
        max_length=config.max_length,
        quantised=method.quantised,
        method=config.method,
        threshold=config.threshold,
        training=made_from(config, data),
    )
    return IntentClassifier(module, load_tokenizer(base), artifact, device)


def _set_dropout(body: nn.Module, share: float) -> None:
    """Set every dropout probability. Architectures keep it in `nn.Dropout` modules or in float attributes."""
    for module in body.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        for name, value in vars(module).items():
            if name.endswith(("dropout", "dropout_prob")) and isinstance(value, float):
                setattr(module, name, share)


def count_weights(weights: torch.Tensor) -> int:
    """Number of weights; for a 4-bit tensor, of those packed into it."""
    packed = getattr(weights, "quant_state", None)
    return weights.numel() if packed is None else packed.shape.numel()


def _predict(classifier: IntentClassifier, data: Dataset) -> list[dict[str, object]]:
    """Classify the test split. The rows are described at `TrainResult.predictions`."""
    answers = zip(data.test.labels, classifier.predict(data.test.texts), strict=True)
    return [
        {"text_id": n, "actual": data.label_names[actual], "predicted": found.intent, "confidence": found.confidence}
        for n, (actual, found) in enumerate(answers)
    ]
