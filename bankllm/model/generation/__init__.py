"""Text generation with a causal language model and, where there is one, a LoRA adapter on it.

In: requests (a chat, a limit of tokens, and a JSON Schema that the text must match). Out: one stream of text per
request. Decoding is greedy. `load` opens an engine: `openvino` (batches requests as they come, for a CPU) or
`transformers` (one request after the other, the reference).
"""

from pathlib import Path
from typing import Literal

from bankllm.errors import UsageError
from bankllm.model import base_models
from bankllm.model.generation.streams import GenerationEngine, GenerationRequest, TextStream
from bankllm.settings import Settings, get_settings

__all__ = ["GenerationEngine", "GenerationRequest", "TextStream", "load"]


def load(
    base_model: str = "smollm2",
    adapter: Path | None = None,
    *,
    engine: Literal["openvino", "transformers"] = "openvino",
    settings: Settings | None = None,
) -> GenerationEngine:
    """Open an engine for a base model, as `base_models.resolve` accepts it, and a PEFT folder with a LoRA adapter.

    Raises `ModelError` if model or adapter cannot be loaded, and `UsageError` if there is no such engine.
    """
    settings = settings or get_settings()
    base = base_models.resolve(base_model, settings)
    if engine == "openvino":
        from bankllm.model.generation.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(base, adapter, settings)
    if engine == "transformers":
        from bankllm.model.generation.transformers_engine import TransformersEngine

        return TransformersEngine(base, adapter, settings)
    raise UsageError(f"Expected the engine openvino or transformers, got {engine!r}.")
