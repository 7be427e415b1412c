"""bankllm: a banking assistant whose reported numbers can all be recomputed.

The package fine-tunes intent classifiers (`train`), answers chats (`ChatEngine`, served over HTTP by `create_app`),
searches stored messages by meaning (`VectorService`), runs load tests (`run_load`), and records measurements with
their raw rows (`open_run`), which `verify` recomputes.

`import bankllm` loads no heavy dependency: each public name below is imported on first access (PEP 562).
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULE_OF = {
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

__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'bankllm' has no attribute {name!r}")
    try:
        module = import_module(_MODULE_OF[name])
    except ModuleNotFoundError as error:
        from bankllm.extras import explained

        raise explained(error) from None
    return getattr(module, "load" if name == "load_dataset" else name)


def __dir__() -> list[str]:
    return __all__
