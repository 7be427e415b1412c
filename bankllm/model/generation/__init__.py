"""Text generation with a causal language model and, where there is one, a LoRA adapter on it.

In: requests (a chat, a limit of tokens, and a JSON Schema that the text must match). Out: one stream of text per
request. Decoding is greedy. `load` opens an engine: `openvino` (batches requests as they come, for a CPU) or
`transformers` (one request after the other, the reference).
"""

import json
from pathlib import Path

from bankllm.errors import ModelError, UsageError, explained
from bankllm.model import base_models
from bankllm.model.artifact import TRAINING_FILE
from bankllm.model.generation.streams import GenerationEngine, GenerationRequest, TextStream
from bankllm.settings import Settings, get_settings

__all__ = ["PACKAGED", "GenerationEngine", "GenerationRequest", "TextStream", "load"]

PACKAGED = Path(__file__).parents[2] / "data" / "language"
"""The adapter of `smollm2` that bankllm carries, trained on TellerChat."""


def load(
    base_model: str = "smollm2",
    adapter: Path | None = None,
    *,
    engine: str = "openvino",
    settings: Settings | None = None,
) -> GenerationEngine:
    """Open an engine for a base model, as `base_models.resolve` accepts it, and a PEFT folder with a LoRA adapter.

    Raises `ModelError` if model or adapter cannot be loaded or the adapter is one of another model, and `UsageError` if
    there is no such engine.
    """
    settings = settings or get_settings()
    base = base_models.resolve(base_model, settings)
    if adapter is not None:
        check_base(adapter, base)
    if engine == "openvino":
        from bankllm.model.generation.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(base, adapter, settings)
    if engine == "transformers":
        from bankllm.model.generation.transformers_engine import TransformersEngine

        return TransformersEngine(base, adapter, settings)
    raise UsageError(f"Expected the engine openvino or transformers, got {engine!r}.")


def check_base(adapter: Path, base: base_models.BaseModel) -> None:
    """Raise `ModelError` if bankllm trained the adapter on other weights than those of `base`."""
    if not (path := adapter / TRAINING_FILE).exists():
        return
    with explained(ModelError, f"{path} cannot be read", "Restore the file, or train again."):
        made = json.loads(path.read_bytes())
        name, sha256 = made["model"], made["model_sha256"]
    if None not in (sha256, base.sha256) and sha256 != base.sha256:
        raise ModelError(
            f"The adapter {adapter} was trained on {name} with the weights sha256 {sha256}. The base model {base.name} "
            f"has sha256 {base.sha256}. Load the adapter's own base model, or train an adapter on this one."
        )
