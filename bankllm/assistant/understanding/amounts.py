"""Turn words of a customer into money and counts. Nothing is guessed: words that stay unclear give None."""

import re
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from text_to_num import alpha2digit

from bankllm.assistant.understanding import WORDS
from bankllm.errors import UsageError

MAX_AMOUNT = 10**9
"""Highest amount in whole units of a currency. Longer numbers are typing errors or tests."""
_SCALE = "|".join(WORDS["scales"])
_SCALED = re.compile(rf"(\d+(?:,\d{{3}})*(?:\.\d+)?) ?({_SCALE})s?\b")
_AMOUNT = re.compile(
    r"([A-Z]{3})? ?(\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?) ?([A-Z]{3})?"
    r"(?: (?:and )?(\d\d|\d(?= (?:cents?|pence|p|[A-Z]{3})\b))(?: cents?| pence| p)?)?(?: ([A-Z]{3}))?(?:/-)?"
)

_CURRENCIES = {
    code: re.compile(rf"(?<![^\W\d_])(?:{names})(?![^\W\d_])") for code, names in WORDS["currencies"].items()
}
_SLANG = {re.compile(rf"\b(?:an? )?{slang}\b"): digits for slang, digits in WORDS["slang"].items()}


class Money(NamedTuple):
    amount_minor: int
    """Pence, cents, or yen."""
    currency: str | None
    """ISO code; None if the customer named no currency."""


def limit(words: str) -> int | None:
    """Return the number of payments that the words ask for; None if it is not a whole number from 1 to 999,999."""
    digits = _digits(words.lower().strip())
    return int(digits) if re.fullmatch(r"[0-9]{1,6}", digits) and int(digits) else None


@lru_cache(4096)
def amount(words: str) -> Money | None:
    """Return the amount. Raises `UsageError` if it is not positive, too large, or has too many decimals."""
    text = " ".join(words.lower().replace("’", "'").split())
    if re.search(r"^(?:\W ?)?[-−] ?\W?\d|^(?:minus|negative) \S", text):
        raise UsageError(f"Expected an amount above zero, got “{words}”.")
    named_cents = re.search(r"(?:\d|\b)(?:p|pence|cents?|c)$", text)
    only_cents = re.fullmatch(r"\w+ ?(?:p|pence|cents?|c)", text)
    text = _digits(re.sub(r"half an? (?=grand|thousand)", "0.5 ", re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text)))
    if not re.search(r"\d", text):
        return None
    for code, pattern in _CURRENCIES.items():
        text = pattern.sub(f" {code} ", text)
    match = _AMOUNT.fullmatch(
        re.sub(r" (?:cents?|c)$", "" if only_cents else r"\g<0>", " ".join(text.split())).strip(".")
    )
    codes = sorted({match[1], match[3], match[5]} - {None}) if match else []
    codes = [code for code in codes if code != "USD" or len(codes) == 1]
    if (
        match is None
        or len(codes) > 1
        or (match[4] and not named_cents and (match[5] or not match[3] or " and " in text))
    ):
        return None
    decimal_comma = re.fullmatch(r"\d+,\d\d?", match[2])
    number = re.sub("[ ,]", "." if decimal_comma else "", match[2])
    decimals = 0 if codes == ["JPY"] else 2
    if len(number.partition(".")[2]) > decimals:
        raise UsageError(f"Expected an amount with at most {decimals} decimals, got “{words}”. Example: 1,234.50.")
    value = (Decimal(number) + Decimal(match[4] or 0) / 100) / (100 if only_cents else 1)
    if not 0 < value <= MAX_AMOUNT:
        raise UsageError(f"Expected an amount above zero and up to {MAX_AMOUNT:,}, got “{words[:40]}”.")
    return Money(int(value * 10**decimals), codes[0] if codes else None)


def _digits(text: str) -> str:
    """Replace numbers in words by digits."""
    for slang, digits in _SLANG.items():
        text = slang.sub(digits, text)
    text = _SCALED.sub(_multiply, re.sub(rf"\ban? (?=(?:{_SCALE})\b)", "one ", text))
    return _SCALED.sub(_multiply, alpha2digit(text, "en", threshold=0)).strip()


def _multiply(match: re.Match[str]) -> str:
    return f"{(Decimal(match[1].replace(',', '')) * WORDS['scales'][match[2]]).normalize():f}"
