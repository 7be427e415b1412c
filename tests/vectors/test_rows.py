"""The argument checks that all stores share."""

import numpy as np
import pytest

from bankllm.errors import UsageError
from bankllm.vectors.rows import Row, check_namespace, checked, unit_vectors

VECTOR = np.array([3, 4], dtype=np.float32)


def test_unit_vectors_keep_the_direction() -> None:
    (found,) = unit_vectors([np.array([3e30, 4e30])], 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0.6, 0.8], rtol=1e-6)


def test_the_length_limit_applies_to_the_percent_encoded_namespace() -> None:
    check_namespace("€" * 56)  # 9 characters each when encoded
    with pytest.raises(UsageError, match="at most 512"):
        check_namespace("€" * 57)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("", "t", VECTOR), "row id of 1–512 ASCII"),
        (Row("é", "t", VECTOR), "row id of 1–512 ASCII"),
        (Row("x" * 513, "t", VECTOR), "row id of 1–512 ASCII"),
        (Row("a", "t", VECTOR, {"customer_id": "CUST002"}), "'customer_id' is reserved"),
        (Row("a", "t", VECTOR, {"x": {"y": 1}}), "bool or list of str, got dict"),  # type: ignore[dict-item]
        (Row("a", "t", VECTOR, {"x": [1]}), "bool or list of str, got list"),  # type: ignore[list-item]
        (Row("a", "t", VECTOR, {"x": float("nan")}), "cannot be written as JSON"),
        (Row("a", "half an emoji \ud83d", VECTOR), "cannot be written as JSON"),
    ],
)
def test_invalid_rows_are_rejected(row: Row, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checked([Row("good", "t", VECTOR), row], 2)
