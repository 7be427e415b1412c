"""`TrainConfig`: rules that involve several fields, and error messages that name the field."""

import pytest

from bankllm.errors import UsageError
from bankllm.training.config import TrainConfig


def test_rank_0_is_refused_only_with_an_adapter():
    for method in ("lora", "qlora"):
        with pytest.raises(UsageError, match=f"{method} needs a rank of 1 or more, got 0"):
            TrainConfig(method=method, rank=0)
    assert [TrainConfig(method=method, rank=0).rank for method in ("probe", "full")] == [0, 0]


@pytest.mark.parametrize(
    ("field", "value"),
    [("rank", -1), ("epochs", 0), ("label_smoothing", 1.0), ("lr_head", 0), ("learning_rate", 1e-3)],
)
def test_the_error_for_an_invalid_value_names_the_field(field, value):
    with pytest.raises(UsageError, match=rf"configuration is invalid: {field}: .*bankllm/training/config\.py"):
        TrainConfig(**{field: value})
