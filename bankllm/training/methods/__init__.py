"""The training methods: which weights of the body are trained, with which loss, and what of them is saved.

A method is one module of this folder that adds an object to `METHODS`. Everything else (the configuration, names in
tables and plots, the model card, the conditions of the records) follows from the attributes of that object.
"""

from bankllm.training.config import METHODS, POOLER, Method

__all__ = ["METHODS", "POOLER", "Method"]
