"""Training: fine-tune an intent classifier and save it as a folder that serving loads.

In: a data set and a `TrainConfig`. Out: a trained `IntentClassifier`, its predictions for the test split, and what the
training cost (time, memory, parameters, bytes).

Start with `train.py`: `train(config, data, output)` runs one training. The other modules by topic:

- Settings: `config.py` (`TrainConfig`); `study.py` compares candidates for the defaults.
- Data: `split.py` checks the data, makes a validation split and calibrates the abstention threshold;
  `label_errors.py` finds labels that are probably wrong.
- Weights: `adapters.py` (LoRA, QLoRA, all weights), `head.py` (linear and kernel head), `cached_layers.py` (runs the
  frozen layers once per text), `trainer.py` (the gradient steps).
- Reliability and scale: `checkpoints.py`, `distributed.py` (several processes), `sweep.py` (many trainings),
  `ray_sweep.py` (several machines).
- Results: `evaluate.py`, `artifact_records.py` and `model_card.py` (records and model card in the saved folder),
  `memory.py` (peak memory).

The classifier itself, its folder and the ONNX export are in `bankllm.model`. `load` reads a saved folder.
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
