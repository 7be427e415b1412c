"""LoRA (arXiv 2106.09685), with PEFT: low-rank matrices are trained beside the frozen linear layers of the body."""

from pathlib import Path
from typing import Any

from bankllm.errors import UsageError
from bankllm.model.quiet_loading import quiet_loading
from bankllm.training.config import TrainConfig
from bankllm.training.methods import METHODS, POOLER, Method


class Lora(Method):
    name = "LoRA"
    ranked = True

    def check(self, device: str) -> None:
        """Import PEFT before the training starts, so that its memory does not count as memory of the training."""
        with quiet_loading():
            import peft  # noqa: F401

    def prepare(self, body: Any, config: TrainConfig) -> Any:
        """Add LoRA matrices. Raises `UsageError` for an unknown target, or a rank above the width of a layer."""
        from peft import LoraConfig, TaskType, get_peft_model

        from bankllm.model.encoder import layer_list

        targets = _targets(body, config)
        unused = [path for path, _ in body.named_modules() if POOLER in path and path.rpartition(".")[2] in targets]
        lora = LoraConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            r=config.rank,
            lora_alpha=2 * config.rank if config.alpha is None else config.alpha,
            target_modules=targets,
            exclude_modules=unused or None,
        )
        if config.top_layers is not None:
            where, layers = layer_list(body)
            count = (len(layers) + 1) // 2 if config.top_layers == "half" else config.top_layers
            if count > len(layers):
                raise UsageError(
                    f"top_layers={count}, but the model has {len(layers)} layers. Set top_layers to a number from 1 "
                    f"to {len(layers)}."
                )
            lora.layers_pattern = where.rpartition(".")[2]
            lora.layers_to_transform = list(range(len(layers) - count, len(layers)))
        with quiet_loading():
            adapted = get_peft_model(body, lora)
        # PEFT records the folder from which the body was loaded, which is valid only on this machine.
        adapted.peft_config["default"].base_model_name_or_path = config.published_base
        return adapted

    def learning_rate(self, config: TrainConfig) -> float:
        return config.lr_adapter

    def artifact(self, body: Any, folder: Path) -> None:
        # With "auto", PEFT would ask the Hub whether the vocabulary of the base model has grown.
        body.save_pretrained(str(folder), save_embedding_layers=False)


def _targets(body: Any, config: TrainConfig) -> list[str]:
    """Names of the linear layers to adapt. PEFT would ignore an unknown name if another one exists."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULTS
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    widths: dict[str, int] = {}
    for path, layer in body.named_modules():
        if isinstance(layer, nn.Linear | Conv1D) and POOLER not in path.split("."):
            sides = (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else layer.weight.shape
            name = path.rpartition(".")[2]
            widths[name] = min(*sides, widths.get(name, max(sides)))
    targets = config.target_modules
    if targets is None:
        default = ("query", "value") if {"query", "value"} <= {*widths} else DEFAULTS.get(body.config.model_type, ())
        targets = tuple(default)
    elif targets == "all-linear":
        targets = tuple(widths)
    if not targets or not {*targets} <= {*widths}:
        which = f"named {min({*targets} - {*widths})}" if targets else "that PEFT adapts by default"
        raise UsageError(
            f"{config.base_model} has no linear layer {which}. It has: {', '.join(sorted(widths))}. Set target_modules "
            "to some of these names, or to all-linear."
        )
    for name in targets:
        if config.rank > widths[name]:
            raise UsageError(
                f"Rank {config.rank} is above the width of {name} ({widths[name]}), so the adapter would be larger "
                f"than the layer. Set rank to a number from 1 to {widths[name]}; published adapters use 4 to 64."
            )
    return list(targets)


METHODS.add("lora", Lora())
