"""Training: a data set and a `TrainConfig` in, an `IntentClassifier` and what it cost out.

`config.py` says what can be chosen; `train.py` trains a probe, LoRA, QLoRA or all weights and saves the
artefact that serving loads; `split.py` checks the data, carves out a validation split and calibrates abstention.
"""
