"""What a message asks for, without a language model: tools by a small head on the encoder, arguments by rules.

In: up to three messages of a customer. Out: tool calls with copied words, as a language model proposes them
(`rules`), or at once what words of a sure meaning ask for (`certain`). `resolve` turns the copied words of either into
values of the customer's own data, with `periods` for days and `amounts` for money.
"""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "data" / "understanding"
WORDS: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / "words.toml").read_text(encoding="utf-8"))
"""The vocabulary of the rules, see the comments of the file."""


@cache
def patterns(section: str) -> dict[str, re.Pattern[str]]:
    """Compile a section of `WORDS`."""
    return {name: re.compile(pattern, re.IGNORECASE) for name, pattern in WORDS[section].items()}
