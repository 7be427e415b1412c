"""bankllm: a banking assistant taken from built to proven.

Fine-tune (`train`), serve (`ChatEngine`, `create_app`), search (`VectorService`), load-test
(`run_load`), and write down only numbers that `verify` recomputes. Importing this package loads
nothing heavy: each name below is imported where it is first used (PEP 562).
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "BankLLMError": "bankllm.errors",
    "ChatEngine": "bankllm.assistant.engine",
    "IntentClassifier": "bankllm.model.torch_classifier",
    "Run": "bankllm.evidence.run",
    "Settings": "bankllm.settings",
    "TrainConfig": "bankllm.training.config",
    "VectorService": "bankllm.vectors.service",
    "create_app": "bankllm.serving.app",
    "load_dataset": "bankllm.datasets",
    "open_run": "bankllm.evidence.run",
    "run_load": "bankllm.loadtest.runner",
    "train": "bankllm.training.train",
    "verify": "bankllm.evidence.verification.verify",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bankllm' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return getattr(home, "load" if name == "load_dataset" else name)


def __dir__() -> list[str]:
    return __all__
