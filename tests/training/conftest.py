"""Fixtures of the training tests."""

import pytest

from bankllm.datasets import Dataset
from tests.support.small_training import three_intents


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Three intents with eight short training texts each. An epoch takes about a second."""
    return three_intents(8)
