"""Models: base models by name, the intent classifier in torch and in ONNX Runtime, and the export between the two.

In: the name of a base model, or the folder of a trained classifier (`artifact`). Out: a `Classifier`, which returns
probabilities per intent and, where the adapter allows it, the base model's embeddings.
"""
