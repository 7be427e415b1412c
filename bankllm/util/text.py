"""Which texts have content, and ids that nothing takes for an account number."""

import secrets
import unicodedata

FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters of the categories letter and symbol without a visible form: Hangul fillers and the blank of Braille."""
INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Mn", "Me"})
"""Unicode categories of spaces, controls, formats (U+200B, U+200D, U+FEFF, …) and marks without a width."""
LETTERS, DIGITS = str.maketrans("0123456789", "ghijklmnop"), str.maketrans("ghijklmnop", "0123456789")
"""Between the digits of a hexadecimal number and letters, so that nothing masks a part of it as an account number."""


def is_blank(text: str) -> bool:
    """Whether a text is empty or shows nothing. `str.strip` would keep characters without a width."""
    return all(unicodedata.category(character) in INVISIBLE or character in FILLERS for character in text)


def random_id() -> str:
    """Return 128 random bits as 32 letters."""
    return secrets.token_hex(16).translate(LETTERS)
