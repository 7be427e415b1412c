"""Training: fine-tune an intent classifier and save it as a folder that serving loads.

`train.py` runs one training, `sweep.py` and `ray_sweep.py` run many; `methods/` has one file per method.
"""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bankllm.model.torch_classifier import IntentClassifier


def load(path: str | PathLike[str]) -> "IntentClassifier":
    """Load the classifier from an artifact folder. Its `predict(list[str])` returns one `Prediction` per text.

    Raises `ModelError` if the folder holds no classifier, is damaged, or was trained on another base model.
    """
    from bankllm.model.torch_classifier import IntentClassifier

    return IntentClassifier.load(Path(path))
