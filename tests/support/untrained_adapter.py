"""An adapter of SmolLM2 that changes nothing: the model is loaded and writes, and what it writes does not matter."""

from pathlib import Path

import numpy as np
from peft import LoraConfig
from safetensors.numpy import save_file


def untrained_adapter(folder: Path) -> Path:
    LoraConfig(r=1, target_modules=["q_proj"], layers_to_transform=[0]).save_pretrained(folder)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    zeros = {name.format("A"): np.zeros((1, 576), np.float32), name.format("B"): np.zeros((576, 1), np.float32)}
    save_file(zeros, folder / "adapter_model.safetensors")
    return folder
