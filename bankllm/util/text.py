"""Which texts have content."""

import unicodedata

FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters of the categories letter and symbol without a visible form: Hangul fillers and the blank of Braille."""
INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Mn", "Me"})
"""Unicode categories of spaces, controls, formats (U+200B, U+200D, U+FEFF, …) and marks without a width."""


def is_blank(text: str) -> bool:
    """Whether a text is empty or shows nothing. `str.strip` would keep characters without a width."""
    return all(unicodedata.category(character) in INVISIBLE or character in FILLERS for character in text)
