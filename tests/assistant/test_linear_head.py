"""A head is read as it was written; a file that is missing, damaged or of other labels is an error with the command."""

from pathlib import Path

import numpy as np
import pytest

from bankllm.assistant.linear_head import LinearHead, hashed_words
from bankllm.errors import ModelError

HEAD = LinearHead(np.eye(2, 3, dtype=np.float32), np.zeros(2, np.float32), {"labels": '["no", "yes"]'})


def test_head_is_read_as_written(tmp_path: Path) -> None:
    HEAD.save(tmp_path / "head.safetensors")
    loaded = LinearHead.load(tmp_path / "head.safetensors", ["no", "yes"], "train.py")
    features = np.array([[0.0, 2.0, 5.0], [1.0, 1.0, 0.0]], np.float32)
    assert np.allclose(loaded.probabilities(features), HEAD.probabilities(features))
    assert np.allclose(loaded.probabilities(features)[1], [0.5, 0.5])


def test_missing_damaged_or_other_head_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    with pytest.raises(ModelError, match="Run train"):
        LinearHead.load(path, ["no", "yes"], "train.py --train")
    path.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="Run train"):
        LinearHead.load(path, ["no", "yes"], "train.py --train")
    HEAD.save(path)
    with pytest.raises(ModelError, match="other labels"):
        LinearHead.load(path, ["fly"], "train.py --train")


def test_same_words_in_any_case_have_the_same_hashes() -> None:
    assert np.array_equal(hashed_words("My Card?"), hashed_words("my card ?"))
    assert not np.array_equal(hashed_words("card my?"), hashed_words("my card?"))
    assert np.linalg.norm(hashed_words("")) == pytest.approx(1)
