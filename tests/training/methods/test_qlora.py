"""QLoRA is *not measured* on a machine where its 4-bit layers cannot run."""

import sys

import pytest

from bankllm.errors import NotMeasured
from bankllm.training.config import TrainConfig
from bankllm.training.train import train


def test_qlora_without_bitsandbytes_is_not_measured(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(NotMeasured, match=r"pip install 'bankllm\[train\]'"):
        train(TrainConfig(method="qlora"), data, progress=False)


def test_qlora_without_a_kernel_is_not_measured(data, monkeypatch):
    import bitsandbytes

    def no_kernel(self, x):
        raise RuntimeError("no native library")

    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "forward", no_kernel)
    with pytest.raises(NotMeasured, match=r"no working 4-bit kernel \(.*no native library\).*train with method lora"):
        train(TrainConfig(method="qlora"), data, progress=False)
