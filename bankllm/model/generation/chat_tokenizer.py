"""A tokenizer with its chat template as transformers has it, but without transformers, whose import takes 270 MiB."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer


class ChatTokenizer:
    """That of a model whose folder bankllm has written, such as the converted SmolLM2."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        self.backend_tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.eos_token_id = self.backend_tokenizer.token_to_id(config["eos_token"])
        self.model_max_length = config["model_max_length"]
        self._template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)

    def apply_chat_template(self, chat: Sequence[Mapping[str, str]], **options: Any) -> list[int]:
        text = self._template.render(messages=chat, **options)
        return list(self.backend_tokenizer.encode(text, add_special_tokens=False).ids)
