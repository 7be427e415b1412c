"""Select which weights of a transformer body are trained: none, low-rank adapters (through PEFT), or all.

LoRA: arXiv 2106.09685. QLoRA: arXiv 2305.14314.
"""

from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from bankllm.errors import NotMeasured, UsageError
from bankllm.model import base_models
from bankllm.model.encoder import layer_list
from bankllm.model.torch_classifier import load_body
from bankllm.training.cached_layers import first_adapted
from bankllm.training.config import TrainConfig

POOLER = "pooler"
"""Name of the pooling layer that some architectures add after the last hidden state. It is never used here."""


def load_trainable_body(base: base_models.BaseModel, config: TrainConfig, device: str) -> Any:
    """Load the body in the precision that training needs. Its weights are frozen unless the method is `full`.

    Raises `ModelError` if the base model cannot be loaded, and `NotMeasured` if QLoRA has no bitsandbytes.
    """
    body = load_body(base, quantised=config.method == "qlora", device=device)
    _set_dropout(body, config.dropout)
    if config.gradient_checkpointing:
        body.gradient_checkpointing_enable({"use_reentrant": False})
    if config.method == "qlora":
        from peft import prepare_model_for_kbit_training

        return prepare_model_for_kbit_training(body, use_gradient_checkpointing=False)
    if config.method == "full" or device == "cpu":
        body = body.float()
    for name, parameter in body.named_parameters():
        # Embeddings are pooled from the last hidden state, so the model's own pooler would never get a gradient.
        parameter.requires_grad = config.method == "full" and POOLER not in name.split(".")
    return body


def attach_adapter(body: Any, config: TrainConfig, published_as: str) -> Any:
    """Add LoRA matrices to the body and freeze the body's own weights. Returns the PEFT model.

    `published_as` is written to `adapter_config.json` as the name of the base model.
    Raises `UsageError` if the model has no layer of a target module's name, or if the rank is larger than the width
    of a target layer.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    names = sorted({layer.rpartition(".")[2] for layer in _linear_layers(body)})
    lora = LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=config.rank,
        lora_alpha=config.scaling_alpha,
        use_rslora=config.rslora,
        use_dora=config.dora,
        target_modules=_target_modules(body, config, names),
        exclude_modules=[layer for layer in _linear_layers(body) if POOLER in layer.split(".")],
    )
    try:
        with base_models.quiet_loading():
            adapted = get_peft_model(body, lora)
    except ValueError as error:
        raise _no_target(config.base_model, "that PEFT adapts by default", names) from error
    _check_rank(adapted, config.rank)
    # PEFT records the folder from which the body was loaded, which is valid only on this machine.
    adapted.peft_config["default"].base_model_name_or_path = published_as
    return adapted


def check_four_bit_kernel(device: str) -> None:
    """Run one small 4-bit layer forward and backward. Raises `NotMeasured` if bitsandbytes has no kernel for it."""
    options = base_models.quantisation_config()
    try:
        with base_models.quiet_loading():
            import bitsandbytes

        layer = bitsandbytes.nn.Linear4bit(64, 64, quant_type="nf4", compute_dtype=options.bnb_4bit_compute_dtype)
        texts = torch.ones(1, 64, device=device, requires_grad=True)
        layer.to(device)(texts).sum().backward()
    except (ImportError, OSError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise NotMeasured(
            f"QLoRA cannot run on device {device}: bitsandbytes has no working 4-bit kernel ({error}). Install a build "
            "of bitsandbytes for this machine, or train with method lora."
        ) from error


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Return (trainable, total) parameters. A 4-bit tensor counts as the number of weights packed into it."""
    trainable = total = 0
    for parameter in module.parameters():
        packed = getattr(parameter, "quant_state", None)
        size = packed.shape.numel() if packed is not None else parameter.numel()
        total += size
        trainable += size if parameter.requires_grad else 0
    return trainable, total


def _set_dropout(body: nn.Module, share: float) -> None:
    """Set every dropout probability. Architectures keep it in `nn.Dropout` modules or in float attributes."""
    for module in body.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        for name, value in vars(module).items():
            if name.endswith(("dropout", "dropout_prob")) and isinstance(value, float):
                setattr(module, name, share)


def _linear_layers(body: nn.Module) -> list[str]:
    return [name for name, layer in body.named_modules() if isinstance(layer, nn.Linear | Conv1D)]


def _target_modules(body: Any, config: TrainConfig, names: list[str]) -> list[str] | str | None:
    """Return the value of `target_modules` for `LoraConfig`.

    PEFT ignores an unknown name if another name matches. Here every unknown name raises `UsageError`.
    """
    wanted = config.target_modules
    if wanted is None:
        wanted = ("query", "value") if {"query", "value"} <= set(names) else _peft_targets(body)
    layers = _linear_layers(body)
    for target in wanted if isinstance(wanted, tuple) else ():
        if not any(_matches(layer, target) for layer in layers):
            raise _no_target(config.base_model, f"named {target}", names)
    if config.top_layers is None:
        return list(wanted) if isinstance(wanted, tuple) else wanted
    where, blocks = layer_list(body)
    top = tuple(f"{where}.{i}." for i in range(first_adapted(body, config.top_layers), len(blocks)))
    return [
        layer
        for layer in layers
        if layer.startswith(top) and (wanted == "all-linear" or any(_matches(layer, t) for t in wanted or ()))
    ]


def _peft_targets(body: Any) -> tuple[str, ...] | None:
    """PEFT's default target modules for the architecture; None if it has none."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as CHOICES

    return tuple(CHOICES[body.config.model_type]) if body.config.model_type in CHOICES else None


def _matches(layer: str, target: str) -> bool:
    return layer == target or layer.endswith(f".{target}")


def _no_target(base_model: str, which: str, names: list[str]) -> UsageError:
    return UsageError(
        f"{base_model} has no linear layer {which}. It has: {', '.join(names)}. Set target_modules to some of these "
        "names, or to all-linear."
    )


def _check_rank(adapted: nn.Module, rank: int) -> None:
    from peft.tuners.lora import LoraLayer

    for name, layer in adapted.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        width = min(side for side in (layer.in_features, layer.out_features) if side)
        if rank > width:
            raise UsageError(
                f"Rank {rank} is above the width of {name} ({width}), so the adapter would be larger than the layer. "
                f"Set rank to a number from 1 to {width}; published adapters use 4 to 64."
            )
