"""Models: base models, the trained intent classifier in torch and in ONNX Runtime, and the export to ONNX.

In: the name of a base model, or the folder of a trained classifier. Out: a `Classifier`, which returns probabilities
per intent and, if the adapter allows it, the embeddings of the base model.

- `base_models.py` finds base models and checks their weights.
- `artifact.py` describes the folder of a classifier and the `Classifier` protocol, without torch.
- `torch_classifier.py` and `encoder.py` run a classifier in torch; `onnx_classifier.py` runs it in ONNX Runtime.
- `export.py` converts a folder to one ONNX file, with `export_graphs.py` and `low_rank_sharing.py`.
- `denormals.py` avoids slow floating-point numbers on x86-64.

`bankllm.training` makes the folders.
"""
