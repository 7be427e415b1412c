"""A fixed line, in its language, to a message that is not in English.

py3langid (0.1 ms a message) chooses among the languages of `data/care/languages.toml` and English.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from bankllm.assistant.care.detection import FOLDER

CERTAIN = 0.9
"""Probability from which a message counts as another language: names and typing errors make English messages look
foreign."""
COMMON, UNLIKELY, SHORTEST = 1500, 0.1, 3
"""A shorter message is of another language ("congela mi tarjeta") if it has at least so many words, none of three
letters and more is among the most common English ones, and its probability of being English is below this."""
LIKELY = 0.25
"""Least probability of that language: no language is likely for English without vowels ("cn u frz crd nw")."""
OFTEN = {"es": 2.0}
"""Language → how much more often customers write it than its neighbours: few words do not tell Spanish and Portuguese
apart."""
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


def language_reply(message: str, ranks: Mapping[str, int], names: Iterable[str] = ()) -> str | None:
    """Return the fixed line in the message's language, or None for English and for what may be English.

    A single word in Latin letters may always be English, or a name. `ranks` are those of English words by frequency,
    `names` the customer's own.
    """
    words = _WORD.findall(message)
    if not words or (len(words) == 1 and words[0].isascii()):
        return None
    own = {word for name in names for word in _WORD.findall(name.casefold())}
    strange = [word.casefold() for word in words if word.casefold() not in own]
    if not strange:
        return None
    likely: dict[str, float] = dict(_identifier().rank(message))
    if likely[best := max(likely, key=likely.__getitem__)] >= CERTAIN:
        return lines().get(best)
    english = any(ranks.get(word, COMMON) < COMMON for word in strange if len(word) > 2)
    if len(strange) < SHORTEST or english or likely["en"] >= UNLIKELY:
        return None
    other = max(lines(), key=lambda language: likely[language] * OFTEN.get(language, 1))
    return lines()[other] if likely[other] >= LIKELY else None
