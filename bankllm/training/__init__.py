"""Training: a data set and a `TrainConfig` in, an `IntentClassifier` and what it cost out.

`config.py` says what can be chosen; `train.py` trains a probe, LoRA, QLoRA or all weights and saves the
artifact that serving loads; `split.py` checks the data, carves out a validation split and calibrates abstention;
`card.py` writes the artifact with its evidence; `export.py` turns it into one ONNX graph. `load` reads it back.
"""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bankllm.model.torch_classifier import IntentClassifier


def load(path: str | PathLike[str]) -> "IntentClassifier":
    """The classifier in an artifact folder; `predict(list[str])` gives a `Prediction` a text.

    Raises `ModelError` if the folder is none, is damaged, or was made for another base model.
    """
    from bankllm.model.torch_classifier import IntentClassifier

    return IntentClassifier.load(Path(path))
