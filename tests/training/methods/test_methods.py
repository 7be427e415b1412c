"""The registry of training methods: names, and what follows from a method's attributes."""

import pytest
from peft import PeftModel
from torch import nn

from bankllm.errors import UsageError
from bankllm.profiles import PROFILES, TrainingRun
from bankllm.training.cached_layers import prefix_layers
from bankllm.training.config import TrainConfig
from bankllm.training.methods import METHODS, Method
from bankllm.training.sweep import plan
from bankllm.training.train import train


class HeadOnly(Method):
    """A method of another package: gradient steps train a bias of the last layer."""

    name = "one bias"

    def prepare(self, body, config):
        body.get_parameter("encoder.layer.5.output.dense.bias").requires_grad = True
        return body


@pytest.fixture
def one_bias(monkeypatch: pytest.MonkeyPatch) -> str:
    METHODS.get("lora")  # loads the registry, which is replaced for the duration of the test
    monkeypatch.setattr(METHODS, "get", {"one-bias": HeadOnly()}.__getitem__)
    return "one-bias"


def test_the_methods_of_the_package():
    titles = {name: METHODS.get(name).title(TrainConfig(method=name)) for name in METHODS}
    assert titles == {
        "full": "full fine-tuning",
        "lora": "LoRA r=8",
        "probe": "kernel head alone",
        "qlora": "QLoRA r=8",
    }
    with pytest.raises(UsageError, match=r"Unknown training method 'ia3'\. Expected one of: full, lora, probe, qlora"):
        TrainConfig(method="ia3")


def test_a_method_of_another_package_trains_caches_the_prefix_and_names_its_results(one_bias, data, tmp_path):
    profile = PROFILES["smoke"].model_copy(update={"training": (TrainingRun(method=one_bias),)})
    assert [(key, planned.label) for key, planned in plan(profile).items()] == [("one-bias", "one bias")]
    result = train(TrainConfig(method=one_bias, head="linear"), data, tmp_path / "adapter", progress=False)
    assert result.costs.trainable_parameters == 384 + 384 * 3 + 3
    body = result.classifier.module.body
    assert prefix_layers(body) == 5
    assert isinstance(body, nn.Module)
    assert not isinstance(body, PeftModel)
    assert (tmp_path / "adapter" / "body" / "model.safetensors").is_file()
    assert "# Banking intents: one bias on" in (tmp_path / "adapter" / "README.md").read_text()
