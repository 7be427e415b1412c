"""Train an intent classifier: a head that starts nearly right, the upper layers adapted, batches of like lengths.

result = train(TrainConfig(method="lora", rank=8, epochs=2), load("teller77"), Path("adapters/lora-r8"))

Why so, with figures: see `study.py`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bankllm.datasets import Dataset
from bankllm.errors import ModelError, UsageError
from bankllm.model import base_models
from bankllm.model.artifact import ClassifierConfig
from bankllm.model.encoder import EncoderWithHead
from bankllm.model.torch_classifier import IntentClassifier, load_tokenizer
from bankllm.training import cached_layers, distributed
from bankllm.training.adapters import attach_adapter, check_four_bits, count_parameters, load_trainable_body
from bankllm.training.artifact_records import Costs
from bankllm.training.cached_layers import Frozen, embed_frozen, keep_four_bits_trainable, replays
from bankllm.training.checkpoints import Checkpoints, TrainingState
from bankllm.training.config import TrainConfig
from bankllm.training.head import fit_kernel_head, start_from_class_means, start_from_probe
from bankllm.training.memory import PeakMemory
from bankllm.training.model_card import check_output, published_name, write_artifact
from bankllm.training.split import check_trainable


@dataclass(frozen=True)
class TrainResult:
    """A trained classifier, what it cost, and what it says about the test split."""

    classifier: IntentClassifier
    config: TrainConfig
    costs: Costs
    frozen: Frozen | None
    """Pass it to the next training on the same base and data; None where the method does without."""
    predictions: list[dict[str, object]]
    """A row a test text: `text_id` (position), `actual`, `predicted` (label names), `confidence` (0 … 1)."""
    curve: list[dict[str, float]]
    """A row an evaluation: `examples` seen, `seconds` of optimisation until then, `accuracy` on the test split."""


def train(
    config: TrainConfig,
    data: Dataset,
    output: Path | None = None,
    progress: bool = True,
    frozen: Frozen | None = None,
    checkpoints: Path | None = None,
    curve: int = 0,
) -> TrainResult:
    """Train on `data.train`, then classify `data.test` once; with `output`, leave an artifact folder there.

    `frozen` (of an earlier result) spares embedding the training texts again. QLoRA may take those of the base in
    full precision: they only decide where its head starts. `checkpoints` is a folder of its own in which the state is
    kept after each epoch; a call with the same folder, configuration and data carries on from there. Remove it when
    the result is safe. `curve` asks for so many evaluations an epoch: do that on `split_validation(data)` alone.
    Raises `DataError` for data that cannot be learnt from, `UsageError` for a configuration that does not fit the
    model, machine or checkpoint, `NotMeasured` where QLoRA cannot run, `ModelError` where memory does not suffice or
    the training diverges, and `RunError` where `output` cannot be written.
    """
    with base_models.quiet_loading():
        from bankllm.training import trainer  # noqa: F401  now, so that imports do not count as training memory

    check_trainable(data)
    if output is not None and distributed.is_main():
        check_output(output)
    device = base_models.device()
    precision = _precision(config, device)
    if config.method == "qlora":
        check_four_bits(device)
    distributed.connect(on_cpu=device == "cpu")
    saved = _open_checkpoints(checkpoints, config, data)
    torch.manual_seed(config.seed)  # adapters and a random head; Trainer seeds the rest
    with _out_of_memory_explained(config), PeakMemory(device) as memory:
        classifier = _untrained(config, data, device)
        run = _Training(config, data, classifier, precision, progress, memory, saved)
        run.start_head(frozen)
        run.fit(curve)
        if config.head == "kernel":
            run.fit_kernel_head(curve)
    predictions = _predict(classifier, data)
    trainable, total = count_parameters(classifier.module)
    costs = Costs(
        device=device,
        precision=precision,
        encode_seconds=run.encode_seconds,
        seconds=run.seconds,
        rows_seen=len(data.train) * (1 if config.method == "probe" else config.epochs),
        truncated=_truncated(classifier, data),
        peak_memory_bytes=run.peak_bytes(),
        reserved_memory_bytes=memory.reserved_bytes,
        trainable_parameters=trainable,
        total_parameters=total,
        adapter_bytes=0,
    )
    if output is not None and distributed.is_main():
        written = write_artifact(classifier, output, predictions, costs)
        costs = costs.model_copy(update={"adapter_bytes": written})
    distributed.wait_for_everyone()
    return TrainResult(classifier, config, costs, run.frozen, predictions, run.curve)


class _Training:
    """One training under way: start the head, optimise, and keep count of what it cost."""

    def __init__(
        self,
        config: TrainConfig,
        data: Dataset,
        classifier: IntentClassifier,
        precision: str,
        progress: bool,
        memory: PeakMemory,
        saved: Checkpoints | None,
    ) -> None:
        self.config, self.data, self.classifier, self.precision = config, data, classifier, precision
        self.progress, self.memory, self.saved = progress, memory, saved
        latest = saved.latest() if saved else None
        self.before = latest[1] if latest else None
        self.frozen: Frozen | None = None
        self.encode_seconds = 0.0
        self.shared_bytes = 0
        """Of embeddings that another training made: they are needed here as well, and are in the level before."""
        self.start_seconds = 0.0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []

    def start_head(self, frozen: Frozen | None) -> None:
        """Set the head from the frozen embeddings; a random head and a checkpoint need none."""
        kind = "probe" if self.config.method == "probe" else self.config.head_init
        if self.before is not None and not replays(self.config):
            self.frozen, self.encode_seconds = frozen, self.before.encode_seconds
            return
        if kind == "random" and not replays(self.config):
            return
        self.frozen = embed_frozen(self.classifier, self.config, self.data, self.progress, frozen)
        self.encode_seconds = self.before.encode_seconds if self.before else self.frozen.seconds
        if self.frozen is frozen and self.memory.device == "cpu":  # they never lie in a GPU's memory
            self.shared_bytes = frozen.nbytes if replays(self.config) else frozen.vectors.nbytes
        never_used = self.config.method == "probe" and self.config.head == "kernel"
        if self.before is not None or kind == "random" or never_used:
            return
        began = time.perf_counter()
        head, scale = self.classifier.module.head, self.classifier.module.logit_scale
        assert isinstance(head, nn.Linear)  # a kernel head comes after training
        if kind == "probe":
            start_from_probe(head, self.frozen.vectors, self.data.train, scale, self.config.seed)
        else:
            start_from_class_means(head, self.frozen.vectors, self.data.train)
        self.start_seconds = time.perf_counter() - began

    def fit(self, evaluations: int) -> None:
        """Everything that is trained by gradients."""
        self.seconds = self.start_seconds
        if self.config.method == "probe":
            return
        with base_models.quiet_loading():
            from bankllm.training.trainer import TrainerHooks, fit
        if self.config.adapts:
            body = attach_adapter(self.classifier.module.body, self.config, published_name(self.config.base_model))
            self.classifier.module.body = body
        hooks = TrainerHooks(
            progress=self.progress,
            checkpoints=self.saved,
            seconds_before=self.before.seconds if self.before else self.start_seconds,
            state=self._so_far,
            evaluations=evaluations,
            evaluate=self._accuracy,
        )
        self.seconds, self.curve = fit(
            self.classifier, self.config, self.data.train, self.precision, hooks, self._below
        )

    def fit_kernel_head(self, evaluations: int) -> None:
        """Put a kernel head on the adapted embeddings of the training texts, in place of the linear one."""
        config, classifier = self.config, self.classifier
        began = time.perf_counter()
        head, scale = fit_kernel_head(
            self._embeddings(),
            self.data.train,
            len(self.data.label_names),
            config.kernel_gamma,
            config.kernel_ridge,
            config.seed,
        )
        classifier.module.head, classifier.module.logit_scale = head.to(classifier.device), scale
        described = {"kernel_gamma": config.kernel_gamma, "logit_scale": scale}
        classifier.artifact = classifier.artifact.model_copy(update=described)
        self.seconds += time.perf_counter() - began
        if evaluations:
            examples = config.epochs * len(self.data.train)
            self.curve.append({"examples": examples, "seconds": self.seconds, "accuracy": self._accuracy()})
            classifier.module.eval()

    def _embeddings(self) -> np.ndarray:
        """(n, hidden): the training texts as the classifier embeds them now."""
        classifier, texts, top_layers = self.classifier, self.data.train.texts, self.config.top_layers
        if self.config.method == "probe" and self.frozen is not None:
            return self.frozen.vectors
        classifier.module.eval()
        if self._below is not None and top_layers is not None:
            return cached_layers.embed_above(classifier, texts, top_layers, self._below, self.progress)
        return distributed.score(classifier, texts).embeddings

    @property
    def _below(self) -> list[torch.Tensor] | None:
        """What the frozen lower layers gave, where they are not run again."""
        return self.frozen.below if self.frozen and replays(self.config) else None

    def peak_bytes(self) -> int:
        """The highest peak, an interrupted part of the training included."""
        here = self.memory.peak_bytes + self.shared_bytes
        return max(here, self.before.peak_memory_bytes if self.before else 0)

    def _so_far(self, seconds: float, epochs: int) -> TrainingState:
        return TrainingState(
            epochs=epochs,
            encode_seconds=self.encode_seconds,
            seconds=seconds,
            peak_memory_bytes=max(self.peak_bytes(), self.memory.now()),
        )

    def _accuracy(self) -> float:
        module = self.classifier.module.eval()
        keep_four_bits_trainable(module)
        probabilities = distributed.score(self.classifier, self.data.test.texts).probabilities
        module.train()
        return float(np.mean(probabilities.argmax(axis=1) == np.array(self.data.test.labels)))


def _precision(config: TrainConfig, device: str) -> str:
    if device == "cpu" and config.precision == "fp16":
        raise UsageError("fp16 cannot be trained on a CPU. Set precision to auto (fp32 here), or use a GPU.")
    return base_models.precision(device) if config.precision == "auto" else config.precision


def _open_checkpoints(folder: Path | None, config: TrainConfig, data: Dataset) -> Checkpoints | None:
    if folder is None or config.method == "probe":
        return None
    fingerprint = {**config.model_dump(mode="json"), **data.conditions(), "processes": distributed.world_size()}
    fingerprint["base_sha256"] = base_models.resolve(config.base_model).sha256
    return Checkpoints(folder, fingerprint)


@contextmanager
def _out_of_memory_explained(config: TrainConfig) -> Iterator[None]:
    """torch's own message speaks of allocators; what helps are three settings."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise ModelError(
            f"Out of memory while training {config.method} on {config.base_model} with batch_size={config.batch_size}, "
            f"max_length={config.max_length}, gradient_checkpointing={config.gradient_checkpointing}. Lower batch_size "
            "or max_length, or set gradient_checkpointing=True; method qlora needs a fraction of it for the weights."
        ) from error


def _untrained(config: TrainConfig, data: Dataset, device: str) -> IntentClassifier:
    base = base_models.resolve(config.base_model)
    body = load_trainable_body(base, config, device)
    # Logistic regression finds its own scale.
    logit_scale = 1.0 if config.method == "probe" else config.logit_scale
    module = EncoderWithHead(body, len(data.label_names), config.pooling, logit_scale)
    module.head.to(device)
    artifact = ClassifierConfig(
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
    return IntentClassifier(module, load_tokenizer(base), artifact, device)


def _predict(classifier: IntentClassifier, data: Dataset) -> list[dict[str, object]]:
    probabilities = distributed.score(classifier, data.test.texts).probabilities
    return [
        {
            "text_id": text_id,
            "actual": data.label_names[actual],
            "predicted": data.label_names[row.argmax()],
            "confidence": float(row.max()),
        }
        for text_id, (actual, row) in enumerate(zip(data.test.labels, probabilities, strict=True))
    ]


def _truncated(classifier: IntentClassifier, data: Dataset) -> int:
    texts = [*data.train.texts, *data.test.texts]
    lengths = classifier.tokenizer(texts, truncation=False, verbose=False, return_length=True)["length"]
    return sum(length > classifier.artifact.max_length for length in lengths)
