"""The settings of a classifier's and a language model's training, and the protocol of a training method.

    TrainConfig(method="lora", rank=8, epochs=2)

The defaults of `TrainConfig` were chosen on validation texts of Banking77; `study.csv` lists the compared candidates.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)

from bankllm.errors import UsageError
from bankllm.model import base_models
from bankllm.model.artifact import BODY_FOLDER
from bankllm.util.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class _Explained(BaseModel):
    """Settings that raise `UsageError`, with the name of each faulty field, in place of pydantic's error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            unknown = {"extra_forbidden": "there is no such field"}
            faults = [f"{'.'.join(map(str, e['loc']))}: {unknown.get(e['type'], e['msg'])}" for e in error.errors()]
            raise UsageError(
                f"The training configuration is invalid: {'; '.join(faults)}. bankllm/training/config.py documents "
                "each field."
            ) from None


class TrainConfig(_Explained):
    """All settings of a training run. An invalid value raises `UsageError`."""

    method: str = "lora"
    """A name in `methods.METHODS`."""
    base_model: str = "minilm"
    """Base model, as `base_models.resolve` accepts it: `minilm`, a Hugging Face id or a folder; encoder or decoder.
    A folder becomes an absolute path, so that the classifier can be loaded from any working folder."""
    rank: int = Field(8, ge=0)
    """Rank r of LoRA. Methods without a rank ignore it."""
    alpha: int | None = Field(None, gt=0)
    """Numerator of LoRA's scale alpha / rank. None means 2 × rank."""
    target_modules: tuple[str, ...] | Literal["all-linear"] | None = None
    """Names of the linear layers that get an adapter. None means query and value if the model has them, otherwise
    PEFT's default for the architecture."""
    top_layers: Annotated[int, Field(ge=1)] | Literal["half"] | None = "half"
    """Number of transformer layers, counted from the top, that LoRA and QLoRA adapt. The output of the layers below is
    computed once per text and cached. `half` means half of the layers, rounded up; None means all layers."""
    pooling: Literal["mean", "cls", "last"] = "mean"
    """How the token vectors become one embedding: mean, first token, or last token (for decoders)."""
    head: Literal["linear", "kernel"] = "kernel"
    """`kernel`: after the last epoch, kernel ridge regression on the adapted embeddings replaces the linear head. It
    stores the embedding of every training text."""
    kernel_gamma: float = Field(1.0, gt=0)
    """gamma of the Gaussian kernel exp(−gamma · squared distance); larger values make the kernel narrower."""
    kernel_ridge: float = Field(0.2, gt=0)
    """Ridge penalty of the kernel head; larger values smooth more."""
    head_init: Literal["probe", "random"] = "probe"
    """Initial weights of the linear head. `probe`: logistic regression on the frozen embeddings."""
    logit_scale: float = Field(20, gt=0)
    """Factor on the cosines. Without it, softmax over values from −1 to 1 cannot reach a high confidence."""
    lr_adapter: float = Field(1e-3, gt=0)
    """Learning rate of the LoRA matrices. All learning rates fall linearly to 0 during the training."""
    lr_head: float = Field(1e-3, gt=0)
    """Learning rate of the linear head. A rate that suits a random head (1e-2) would destroy a good initial head."""
    lr_body: float = Field(2e-4, gt=0)
    """Learning rate of the pretrained weights, for methods that train them."""
    epochs: int = Field(2, ge=1)
    max_steps: int | None = Field(None, gt=0)
    """Number of gradient steps after which the training ends, also within an epoch; None: after `epochs`."""
    batch_size: int = Field(64, ge=1)
    """Texts per step."""
    max_length: int = Field(64, ge=4)
    """Maximum tokens per text; longer texts are cut."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread over all labels."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout probability inside the transformer. On a CPU, dropout takes a sixth of the training time."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of storing them."""
    seed: int = Field(0, ge=0)
    """Random seed of the adapters, the dropout and the order of the batches."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """`auto` selects what the hardware runs natively: bf16, fp16 on a T4, fp32 on a CPU."""
    threshold: float = Field(0.0, ge=0, le=1)
    """Confidence below which the classifier abstains; saved in the artifact. See `split.calibrate_threshold`."""

    def rows_seen(self, rows: int) -> int:
        """Number of training texts in the gradient steps of a training on `rows` texts."""
        return min(self.epochs * rows, (self.max_steps or self.epochs * rows) * self.batch_size)

    @property
    def published_base(self) -> str:
        """Name of the base model on the Hub, or the name of its local folder; never a path."""
        return base_models.MINILM_ID if self.base_model == "minilm" else base_models.resolve(self.base_model).name

    @field_validator("base_model")
    @classmethod
    def _absolute(cls, name: str) -> str:
        named = name in ("minilm", base_models.MINILM_ID)
        return str(Path(name).absolute()) if not named and Path(name).is_dir() else name

    @model_validator(mode="after")
    def _check_rank(self) -> Self:
        if METHODS.get(self.method).ranked and self.rank == 0:
            raise UsageError(f"{self.method} needs a rank of 1 or more, got 0. Set rank, or set method to probe.")
        return self


class LanguageModelConfig(_Explained):
    """All settings of a fine-tuning. An invalid value raises `UsageError`."""

    method: Literal["lora", "qlora"] = "lora"
    """`qlora` loads the base model in 4 bits."""
    base_model: str = "smollm2"
    """A causal language model, as `base_models.resolve` accepts it."""
    start: Path | None = None
    """Folder of an adapter of the same rank that the training continues; None: a new adapter."""
    average: bool = False
    """Whether the result is the mean of the weights of `start` and of those after the training, which forgets less
    than the latter (Wortsman et al., Robust fine-tuning of zero-shot models, 2022)."""
    rank: int = Field(8, ge=1, le=256)
    """Rank r of the LoRA matrices beside every linear layer except the output layer."""
    alpha: int | None = Field(None, gt=0)
    """Numerator of LoRA's scale alpha / rank. None means 2 × rank."""
    learning_rate: float = Field(1e-3, gt=0)
    """Highest learning rate: it rises linearly in the first 3 % of the steps, then falls linearly to 0."""
    epochs: int = Field(2, ge=1)
    max_steps: int | None = Field(None, gt=0)
    """Number of gradient steps after which the training ends, also within an epoch; None: after `epochs`."""
    batch_size: int = Field(16, ge=1)
    """Examples per step."""
    max_length: int = Field(512, ge=16)
    """Maximum tokens per example. Longer examples are left out and counted."""
    seed: int = Field(0, ge=0)
    """Random seed of the adapter and of the order of the examples."""

    @property
    def scale(self) -> int:
        return 2 * self.rank if self.alpha is None else self.alpha

    @property
    def published(self) -> dict[str, Any]:
        """The settings with the published name of the base model and without the folder `start`: no local path."""
        name = base_models.resolve(self.base_model).name
        return {**self.model_dump(mode="json", exclude={"start"}), "base_model": name}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.average and self.start is None:
            raise UsageError("average=true needs the adapter to average with. Set start to its folder.")
        return self


POOLER = "pooler"
"""Pooling layer that some architectures have after the last hidden state. It is never used, trained or adapted here."""


class Method(Protocol):
    """A training method. The defaults train the body's weights with cross-entropy and save the whole body."""

    name: str
    """Name for tables, plots and model cards: `LoRA`."""
    ranked: bool = False
    """Whether `TrainConfig.rank` applies. It is then part of a configuration's name: `LoRA r=8`."""
    quantised: bool = False
    """Whether the base model is loaded in 4 bits."""
    trains_body: bool = True
    """Whether gradient steps train weights of the body. If not, only the head is fitted."""

    def title(self, config: TrainConfig) -> str:
        """Name of a configuration, without its seed."""
        return f"{self.name} r={config.rank}" if self.ranked else self.name

    def check(self, device: str) -> None:
        """Raise `NotMeasured` if the method cannot run on `device`. Called before the base model is loaded."""
        return

    def prepare(self, body: Any, config: TrainConfig) -> Any:
        """Set `requires_grad` of the weights to train, and return the body, which a method may wrap.

        `body` is loaded and frozen. Raises `UsageError` if the configuration does not fit the model.
        """
        return body

    def learning_rate(self, config: TrainConfig) -> float:
        return config.lr_body

    def loss(self, outputs: Any, labels: "Tensor", config: TrainConfig) -> "Tensor":
        """Loss of one batch. For a classifier, `outputs.logits` is (n, classes) and `labels` is (n,)."""
        from torch.nn import functional

        return functional.cross_entropy(outputs.logits, labels, label_smoothing=config.label_smoothing)

    def artifact(self, body: Any, folder: Path) -> None:
        """Save the trained weights: an adapter of PEFT in `folder`, or the whole body in `folder/body`."""
        body.save_pretrained(str(folder / BODY_FOLDER))


METHODS: Registry[Method] = Registry("training method", "bankllm.methods", "bankllm.training.methods")
