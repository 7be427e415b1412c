"""How an embedding model makes one vector of a text, read from the files of sentence-transformers in its folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bankllm.errors import ModelError, explained
from bankllm.model.artifact import Pooling

POOLINGS: dict[str, Pooling] = {
    "mean": "mean",
    "pooling_mode_mean_tokens": "mean",
    "cls": "cls",
    "pooling_mode_cls_token": "cls",
    "lasttoken": "last",
    "pooling_mode_lasttoken": "last",
}
"""Name of a pooling in the current format and in the older one, which has one switch for each → `encoder.pool`."""
PLAIN: tuple[list[str], ...] = ([], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
"""Modules of a model whose vectors are those of `encoder.EncoderWithHead.embed`; none in a folder without the files."""


@dataclass(frozen=True)
class SentencePooling:
    pooling: Pooling
    max_length: int | None
    """Maximum tokens per text; None if only the tokenizer and the body limit them."""


def sentence_pooling(folder: Path) -> SentencePooling | None:
    """Return the pooling of a model folder; mean pooling if the folder has no files of sentence-transformers.

    None if the model has other parts, such as a dense layer or a default prompt, that only sentence-transformers runs.
    Raises `ModelError` if a file is damaged.
    """
    fault = f"The files of sentence-transformers in {folder} cannot be read"
    with explained(ModelError, fault, "Expected those of one embedding model. Download or copy the folder again."):
        modules = _read(folder / "modules.json", [])
        parts = [module["type"].rpartition(".")[2] for module in modules]
        body = _read(folder / "sentence_bert_config.json", {})
        prompt = _read(folder / "config_sentence_transformers.json", {}).get("default_prompt_name")
        place = modules[1]["path"] if len(modules) > 1 else "1_Pooling"
        config = _read(folder / place / "config.json", {"pooling_mode": "mean"})
        switches = [key for key, on in config.items() if key.startswith("pooling_mode_") and on]
        modes = [str(config["pooling_mode"])] if "pooling_mode" in config else switches
        if parts not in PLAIN or prompt or body.get("do_lower_case") or len(modes) != 1 or modes[0] not in POOLINGS:
            return None
        return SentencePooling(POOLINGS[modes[0]], body.get("max_seq_length"))


def _read(path: Path, missing: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else missing
