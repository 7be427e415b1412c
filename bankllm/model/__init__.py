"""Models: base models, the trained intent classifier in torch and in ONNX Runtime, and the export to ONNX.

In: the name of a base model, or the folder of a trained classifier, which `bankllm.training` makes. Out: a `Classifier`
(`artifact`), which returns probabilities per intent and embeddings.
"""
