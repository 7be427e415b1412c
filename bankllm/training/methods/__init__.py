"""The training methods: each module of this folder adds one object to `METHODS`."""

from bankllm.training.config import METHODS, POOLER, Method

__all__ = ["METHODS", "POOLER", "Method"]
