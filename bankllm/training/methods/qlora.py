"""QLoRA (arXiv 2305.14314): LoRA on a base model in 4 bits."""

from typing import Any

from bankllm.errors import NotMeasured, explained
from bankllm.model import base_models
from bankllm.model.quiet_loading import quiet_loading
from bankllm.training.config import TrainConfig
from bankllm.training.methods import METHODS
from bankllm.training.methods.lora import Lora


class QLora(Lora):
    name = "QLoRA"
    quantised = True

    def check(self, device: str) -> None:
        """Run one small 4-bit layer forward and backward. Raises `NotMeasured` if there is no kernel for it."""
        super().check(device)
        import torch

        options = base_models.quantisation_config()
        fault = f"QLoRA cannot run on device {device}: bitsandbytes has no working 4-bit kernel"
        advice = "Install a build of bitsandbytes for this machine, or train with method lora."
        with explained(NotMeasured, fault, advice):
            with quiet_loading():
                from bitsandbytes.nn.modules import Linear4bit

            layer = Linear4bit(64, 64, quant_type="nf4", compute_dtype=options.bnb_4bit_compute_dtype)
            texts = torch.ones(1, 64, device=device, requires_grad=True)
            layer.to(device)(texts).sum().backward()

    def prepare(self, body: Any, config: TrainConfig) -> Any:
        from peft import prepare_model_for_kbit_training

        return super().prepare(prepare_model_for_kbit_training(body, use_gradient_checkpointing=False), config)


METHODS.add("qlora", QLora())
