"""The engine of the assistant's language model: one in this process understands messages and words facts."""

from functools import cache
from pathlib import Path

from bankllm.errors import ModelError
from bankllm.model.generation import PACKAGED, GenerationEngine, load
from bankllm.settings import Settings, get_settings


def adapter(settings: Settings) -> Path:
    return settings.language_adapter or PACKAGED


@cache
def shared_engine(folder: Path) -> GenerationEngine:
    """Load the engine with an adapter, once in this process. Raises `ModelError`."""
    if not folder.exists():
        raise ModelError(
            f"There is no adapter of the language model in {folder}. Train one with `bankllm train`, and set "
            "BANKLLM_LANGUAGE_ADAPTER to its folder, or set BANKLLM_UNDERSTANDING=rules."
        )
    return load("smollm2", folder, settings=get_settings())
