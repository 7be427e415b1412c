"""What can be chosen about a training run. LoRA, QLoRA, full fine-tuning and the probe differ by one field.

TrainConfig(method="lora", rank=8, epochs=2)

The defaults were chosen on validation texts of Banking77; `study.py` lists what was compared, and runs it again.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from bankllm.errors import UsageError

Method = Literal["probe", "lora", "qlora", "full"]


class TrainConfig(BaseModel):
    """Every choice of a training run; a value that does not fit raises `UsageError`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "lora"
    """`probe`: logistic regression on frozen embeddings; `lora`; `qlora`: LoRA on a base in 4 bits; `full`: all
    weights."""
    base_model: str = "minilm"
    """What `models.resolve` takes: `minilm`, a Hugging Face id or a folder; encoder or decoder."""
    rank: int = Field(8, ge=0)
    """LoRA's r (arXiv 2106.09685). `probe` and `full` have none and ignore it."""
    alpha: int | None = Field(None, gt=0)
    """LoRA's scaling numerator; None means 2 × rank, so that the scale stays 2 whatever the rank."""
    target_modules: tuple[str, ...] | Literal["all-linear"] | None = None
    """Names of the linear layers that get an adapter; None means query and value where the model has them, else
    PEFT's choice for the architecture."""
    top_layers: Annotated[int, Field(ge=1)] | Literal["half"] | None = "half"
    """LoRA and QLoRA adapt the last so many transformer layers (`half`: rounded up) alone; what the layers below give
    is computed once and kept. None: all layers."""
    rslora: bool = False
    """Scale by alpha / √rank instead of alpha / rank (arXiv 2312.03732)."""
    dora: bool = False
    """Train magnitude and direction apart (DoRA, arXiv 2402.09353); slower."""
    pooling: Literal["mean", "cls", "last"] = "mean"
    """How token vectors become one; `last` is for decoders."""
    head: Literal["linear", "kernel"] = "kernel"
    """`kernel`: after the last pass the linear head gives way to kernel ridge regression on the adapted embeddings.
    It keeps every training text's embedding (Banking77: 9 MB); `linear` keeps a few vectors (0.1 MB)."""
    kernel_gamma: float = Field(1.0, gt=0)
    """How fast the kernel head's likeness falls with the squared distance of two embeddings."""
    kernel_ridge: float = Field(0.2, gt=0)
    """How little the kernel head follows a single training text."""
    head_init: Literal["class-means", "probe", "random"] = "probe"
    """Where the linear head starts. `class-means`: a nearest-centroid classifier on the frozen embeddings, `probe`:
    logistic regression on them."""
    logit_scale: float = Field(20, gt=0)
    """Multiplies the cosines: without it softmax over values in −1 … 1 could not become confident."""
    lr_adapter: float = Field(1e-3, gt=0)
    """Of LoRA's matrices."""
    lr_head: float = Field(1e-3, gt=0)
    """Of the linear head. It starts near its goal; rates that suit a random head (1e-2) throw the start away."""
    lr_body: float = Field(2e-4, gt=0)
    """Of the pretrained weights; `full` alone trains them."""
    epochs: int = Field(2, ge=1)
    """Passes over the training texts."""
    batch_size: int = Field(64, ge=1)
    """Texts a step."""
    max_length: int = Field(64, ge=4)
    """Tokens; longer texts are cut."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread over all labels."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Inside the transformer. On a CPU it costs a sixth of the time, and a few passes hardly overfit."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: for large models on a small GPU."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of the steps over which the learning rates rise; they then fall linearly to 0."""
    seed: int = Field(0, ge=0)
    """Of adapters, dropout and the order of batches."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """`auto` takes what the hardware runs natively: bf16, fp16 on a T4, fp32 on a CPU."""
    threshold: float = Field(0.0, ge=0, le=1)
    """Written to the artifact: answers below this confidence are abstentions (see `split.calibrate_threshold`)."""

    @property
    def adapts(self) -> bool:
        """Whether the method adds LoRA matrices."""
        return self.method in ("lora", "qlora")

    @property
    def scaling_alpha(self) -> int:
        """`alpha`, with its rule applied."""
        return 2 * self.rank if self.alpha is None else self.alpha

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            config = handler(values)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise UsageError(
                f"The training configuration does not fit: {faults}. See bankllm/training/config.py."
            ) from None
        if config.adapts and config.rank == 0:
            raise UsageError(f"{config.method} needs a rank of 1 or more, got 0. Set rank, or train a probe.")
        return config
