"""Numbers that open an account leave no trace: they are masked before a message is stored, logged or sent anywhere.

Only what a check digit confirms is taken for one (python-stdnum): an order number of sixteen digits stays.
"""

import re
from collections.abc import Iterator

from stdnum import iban, luhn
from stdnum.us import ssn

CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w])")
IBAN = re.compile(r"(?<!\w)(?=([A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}))")
"""Looks ahead, so that a match that runs on into the next IBAN does not hide it."""
SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
SHOWN = 4
"""Characters that stay, so that a customer knows which one is meant."""


def mask(text: str) -> str:
    """The text with payment card numbers, IBANs and US social security numbers replaced: `[card …1111]`."""
    found = sorted(_found(text))
    masked, end = [], 0
    for start, stop, kind in found:
        if start < end:
            continue
        masked += [text[end:start], f"[{kind} …{_compact(text[start:stop])[-SHOWN:]}]"]
        end = stop
    return "".join([*masked, text[end:]])


def _found(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, stop, kind) of each number that its check digits confirm."""
    for match in CARD.finditer(text):
        if luhn.is_valid(_compact(match[0])):
            yield match.start(), match.end(), "card"
    for match in IBAN.finditer(text):
        # The pattern runs on into the words that follow: the longest beginning that is an IBAN counts.
        for stop in range(match.end(1), match.start() + 14, -1):
            if iban.is_valid(text[match.start() : stop]) and not text[stop : stop + 1].isalnum():
                yield match.start(), stop, "IBAN"
                break
    for match in SSN.finditer(text):
        if ssn.is_valid(match[0]):
            yield match.start(), match.end(), "SSN"


def _compact(number: str) -> str:
    return number.replace(" ", "").replace("-", "")
