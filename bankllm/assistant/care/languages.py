"""A fixed line, in its language, to a message that is not in English.

py3langid (0.1 ms a message) chooses among the languages of `data/care/languages.toml` and English.
"""

import re
import tomllib
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from bankllm.assistant.care.detection import FOLDER

CERTAIN = 0.9
"""Probability from which a message counts as another language: names and typing errors make English messages look
foreign."""
_WORD = re.compile(r"[^\W\d_]+")


@cache
def lines() -> dict[str, str]:
    """ISO 639-1 code → the fixed line."""
    return tomllib.loads((FOLDER / "languages.toml").read_text(encoding="utf-8"))


@cache
def _identifier() -> LanguageIdentifier:
    """Read the model, which takes two seconds."""
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(["en", *lines()])
    return identifier


def language_reply(message: str) -> str | None:
    """Return the fixed line in the message's language, or None for English and for what may be English.

    A single word in Latin letters may always be English, or a name.
    """
    words = _WORD.findall(message)
    if not words or (len(words) == 1 and words[0].isascii()):
        return None
    language, probability = _identifier().classify(message)
    return lines().get(language) if probability >= CERTAIN else None
