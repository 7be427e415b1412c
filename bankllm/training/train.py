"""Train an intent classifier and save it.

    result = train(TrainConfig(method="lora", rank=8, epochs=2), load("teller77"), Path("adapters/lora-r8"))

By default the linear head starts from logistic regression on frozen embeddings, LoRA adapts the upper half of the
layers, batches hold texts of similar length, and a kernel head replaces the linear head at the end. `study.py` holds
the measurements behind these choices.
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
from bankllm.training.adapters import attach_adapter, check_four_bit_kernel, count_parameters, load_trainable_body
from bankllm.training.artifact_records import Costs
from bankllm.training.cached_layers import FrozenEmbeddings, embed_frozen, keep_four_bits_trainable, uses_cached_prefix
from bankllm.training.checkpoints import Checkpoints, TrainingState
from bankllm.training.config import TrainConfig
from bankllm.training.head import fit_kernel_head, start_from_class_means, start_from_probe
from bankllm.training.memory import PeakMemory
from bankllm.training.model_card import check_output, published_name, write_artifact
from bankllm.training.split import check_trainable


@dataclass(frozen=True)
class TrainResult:
    """A trained classifier, its costs, and its predictions for the test split."""

    classifier: IntentClassifier
    config: TrainConfig
    costs: Costs
    frozen: FrozenEmbeddings | None
    """Frozen embeddings, to pass to the next training on the same base and data; None if the method needs none."""
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
    frozen: FrozenEmbeddings | None = None,
    checkpoints: Path | None = None,
    curve: int = 0,
) -> TrainResult:
    """Train on `data.train`, then classify `data.test` once.

    - `output`: folder in which the artifact is saved; None saves nothing.
    - `progress`: show progress bars.
    - `frozen`: the frozen embeddings of an earlier result, so that the training texts are not embedded again. QLoRA
      may use embeddings of the base in full precision, because they only initialise its head.
    - `checkpoints`: a separate folder for the state after each epoch. A call with the same folder, configuration and
      data resumes from the last epoch. Delete the folder after the result has been saved.
    - `curve`: number of evaluations on `data.test` per epoch; 0 means none. Use it only with `split_validation(data)`,
      so that nothing is chosen on the real test split.

    Raises `DataError` if `data` has fewer than two labels or a label without training text, `UsageError` if the
    configuration does not suit the model, the machine or the checkpoint, `NotMeasured` if QLoRA cannot run on this
    machine, `ModelError` if memory is insufficient or the training diverges, and `RunError` if `output` cannot be
    written.
    """
    with base_models.quiet_loading():
        # Import now, so that the memory of the imports does not count as training memory.
        from bankllm.training import trainer  # noqa: F401

    check_trainable(data)
    if output is not None and distributed.is_main():
        check_output(output)
    device = base_models.device()
    precision = _precision(config, device)
    if config.method == "qlora":
        check_four_bit_kernel(device)
    distributed.connect(on_cpu=device == "cpu")
    saved = _open_checkpoints(checkpoints, config, data)
    torch.manual_seed(config.seed)  # for the adapters and a random head; Trainer seeds everything else
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
    """The steps of one training (initialise the head, optimise, fit the kernel head) and its running costs."""

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
        self.frozen: FrozenEmbeddings | None = None
        self.encode_seconds = 0.0
        self.shared_bytes = 0
        """Bytes of frozen embeddings that another training computed. They were in memory before `PeakMemory` started,
        so its peak does not contain them; `peak_bytes` adds them."""
        self.start_seconds = 0.0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []

    def start_head(self, frozen: FrozenEmbeddings | None) -> None:
        """Compute the frozen embeddings if needed, and initialise the head from them.

        A random head and a resumed training need no initialisation. They need the embeddings only if cached prefix
        states are used.
        """
        kind = "probe" if self.config.method == "probe" else self.config.head_init
        if self.before is not None and not uses_cached_prefix(self.config):
            self.frozen, self.encode_seconds = frozen, self.before.encode_seconds
            return
        if kind == "random" and not uses_cached_prefix(self.config):
            return
        self.frozen = embed_frozen(self.classifier, self.config, self.data, self.progress, frozen)
        self.encode_seconds = self.before.encode_seconds if self.before else self.frozen.seconds
        if self.frozen is frozen and self.memory.device == "cpu":  # frozen embeddings are never in GPU memory
            self.shared_bytes = frozen.nbytes if uses_cached_prefix(self.config) else frozen.vectors.nbytes
        never_used = self.config.method == "probe" and self.config.head == "kernel"
        if self.before is not None or kind == "random" or never_used:
            return
        started = time.perf_counter()
        head, scale = self.classifier.module.head, self.classifier.module.logit_scale
        assert isinstance(head, nn.Linear)  # the kernel head is fitted after the training
        if kind == "probe":
            start_from_probe(head, self.frozen.vectors, self.data.train, scale, self.config.seed)
        else:
            start_from_class_means(head, self.frozen.vectors, self.data.train)
        self.start_seconds = time.perf_counter() - started

    def fit(self, evaluations: int) -> None:
        """Train adapter (or body) and linear head with gradients, with `evaluations` evaluations per epoch.

        A probe is not trained with gradients.
        """
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
            state=self._state,
            evaluations=evaluations,
            evaluate=self._accuracy,
        )
        self.seconds, self.curve = fit(
            self.classifier, self.config, self.data.train, self.precision, hooks, self._prefix_states
        )

    def fit_kernel_head(self, evaluations: int) -> None:
        """Fit a kernel head on the adapted embeddings of the training texts. It replaces the linear head."""
        config, classifier = self.config, self.classifier
        started = time.perf_counter()
        head, scale = fit_kernel_head(
            self._embeddings(),
            self.data.train,
            len(self.data.label_names),
            config.kernel_gamma,
            config.kernel_ridge,
            config.seed,
        )
        classifier.module.head, classifier.module.logit_scale = head.to(classifier.device), scale
        changes = {"kernel_gamma": config.kernel_gamma, "logit_scale": scale}
        classifier.artifact = classifier.artifact.model_copy(update=changes)
        self.seconds += time.perf_counter() - started
        if evaluations:
            examples = config.epochs * len(self.data.train)
            self.curve.append({"examples": examples, "seconds": self.seconds, "accuracy": self._accuracy()})
            classifier.module.eval()

    def _embeddings(self) -> np.ndarray:
        """Return the current embeddings of the training texts, (n, hidden)."""
        classifier, texts, top_layers = self.classifier, self.data.train.texts, self.config.top_layers
        if self.config.method == "probe" and self.frozen is not None:
            return self.frozen.vectors
        classifier.module.eval()
        if self._prefix_states is not None and top_layers is not None:
            return cached_layers.embed_from_prefix(classifier, texts, top_layers, self._prefix_states, self.progress)
        return distributed.score(classifier, texts).embeddings

    @property
    def _prefix_states(self) -> list[torch.Tensor] | None:
        """The cached prefix states of the training texts; None if the frozen layers run in every epoch."""
        return self.frozen.prefix_states if self.frozen and uses_cached_prefix(self.config) else None

    def peak_bytes(self) -> int:
        """Return the peak memory in bytes, including the peak before an interruption."""
        peak = self.memory.peak_bytes + self.shared_bytes
        return max(peak, self.before.peak_memory_bytes if self.before else 0)

    def _state(self, seconds: float, epochs: int) -> TrainingState:
        """Return the state for a checkpoint, after `epochs` epochs and `seconds` of optimisation."""
        return TrainingState(
            epochs=epochs,
            encode_seconds=self.encode_seconds,
            seconds=seconds,
            peak_memory_bytes=max(self.peak_bytes(), self.memory.now()),
        )

    def _accuracy(self) -> float:
        """Return the current accuracy on the test split."""
        module = self.classifier.module.eval()
        keep_four_bits_trainable(module)
        probabilities = distributed.score(self.classifier, self.data.test.texts).probabilities
        module.train()
        return float(np.mean(probabilities.argmax(axis=1) == np.array(self.data.test.labels)))


def _precision(config: TrainConfig, device: str) -> str:
    if device == "cpu" and config.precision == "fp16":
        raise UsageError("Training in fp16 is not possible on a CPU. Set precision to auto (fp32 here), or use a GPU.")
    return base_models.precision(device) if config.precision == "auto" else config.precision


def _open_checkpoints(folder: Path | None, config: TrainConfig, data: Dataset) -> Checkpoints | None:
    if folder is None or config.method == "probe":
        return None
    fingerprint = {**config.model_dump(mode="json"), **data.conditions(), "processes": distributed.world_size()}
    fingerprint["base_sha256"] = base_models.resolve(config.base_model).sha256
    return Checkpoints(folder, fingerprint)


@contextmanager
def _out_of_memory_explained(config: TrainConfig) -> Iterator[None]:
    """Replace torch's out-of-memory message, which describes allocators, by the settings that reduce memory."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise ModelError(
            f"Out of memory while training {config.method} on {config.base_model} with batch_size={config.batch_size}, "
            f"max_length={config.max_length}, gradient_checkpointing={config.gradient_checkpointing}. Lower batch_size "
            "or max_length, or set gradient_checkpointing=True. Method qlora needs less memory for the weights."
        ) from error


def _untrained(config: TrainConfig, data: Dataset, device: str) -> IntentClassifier:
    """Build the classifier before the training: body, random linear head and tokenizer, on `device`."""
    base = base_models.resolve(config.base_model)
    body = load_trainable_body(base, config, device)
    # Logistic regression determines the scale of its logits itself.
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
    """Classify the test split. The rows are described at `TrainResult.predictions`."""
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
    """Count the texts of both splits that are longer than `max_length` tokens."""
    texts = [*data.train.texts, *data.test.texts]
    lengths = classifier.tokenizer(texts, truncation=False, verbose=False, return_length=True)["length"]
    return sum(length > classifier.artifact.max_length for length in lengths)
