"""Mask account numbers before a message is stored, logged, quoted or sent to a language model: `[card …1111]`.

Three kinds of numbers are recognised:

- Payment cards: a known issuer's prefix and length, and a valid Luhn check digit (ISO/IEC 7812).
- IBANs: the structure of the country and valid check digits (ISO 13616, tables of `python-stdnum`).
- US social security numbers (SSN). They have no check digit, so they are recognised only with the usual separators or
  next to a word such as "SSN".

The search runs on a canonical form of the text: Unicode NFKC, every decimal digit as 0-9, separators as spaces.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeAlias

from stdnum import iban, luhn, numdb
from stdnum.us import ssn

ISSUERS = {
    (13, 16, 19): "4",  # Visa
    (14, 16): "300-305 3095 36 38-39",  # Diners Club
    (15,): "34 37",  # American Express
    (16,): "2221-2720 51-55 5067 5085-5089 6062 6363 9792",  # Mastercard, Elo, RuPay, Hipercard, Troy
    (16, 19): "2200-2204 3528-3589 5060-5061 6011 644-649 65",  # Mir, JCB, Verve, Discover
    (16, 17, 18, 19): "62 8100-8199",  # UnionPay
    (13, 14, 15, 16, 17, 18, 19): "5018-5020 5038 5893 6304 6759 6761-6763",  # Maestro
}
"""Possible lengths of a card number → prefixes. Maestro's ranges 50, 56-58 and 6 are not listed in full: they would
match one random number in seven."""
CARD_LENGTHS = {
    f"{prefix:04}": lengths
    for lengths, ranges in ISSUERS.items()
    for first, last in ((one.split("-") * 2)[:2] for one in ranges.split())
    for prefix in range(int(first.ljust(4, "0")), int(last.ljust(4, "9")) + 1)
}
"""First four digits of a card number → possible lengths."""

SHOWN = 4
"""Number of trailing characters that a mask shows, so that a customer can recognise the number."""
VISIBLE = "./\\_|·•‧∙⁄∕"
"""Separators in addition to white space and dashes."""
WEAK = ",:;*"
"""Separators that also occur in lists, times and amounts. Accepted only in the usual grouping of a card."""
GAP = re.compile(r"~*(?:[ ,-]~*){0,3}")
"""What may separate two groups of one number: up to three visible separators, any number of invisible characters."""
GROUP = re.compile(r"[0-9]+")
SEQUENCE = re.compile(rf"[0-9]+(?:{GAP.pattern}[0-9]+)*+")
"""Groups of digits that only separators divide."""
IBAN_START = re.compile(rf"(?=([A-Za-z]{{2}})({GAP.pattern})[0-9]{GAP.pattern}[0-9])")
IBAN_CHARACTER = re.compile(rf"{GAP.pattern}([A-Za-z0-9])")
MASKED = r"(?! {4}[0-9]{4}\])"
"""Negative lookahead: the word before it is not the `card` or `SSN` of an existing mask, e.g. `[card …1111]`."""
CARD_WORD = re.compile(
    rf"(?:card|visa|master|maestro|amex|discover|diners|jcb|unionpay|debit|credit|cvv|cvc|expir){MASKED}", re.IGNORECASE
)
SSN_WORD = re.compile(
    r"(?:ssn|\bs ?s ?n\b|\bss(?=[ !]*(?:[0-9]|no\b|num))|\bso[cs]i?a?l?[ -]{0,3}sec|\bmy social\b(?! media)"
    rf"|seguro social){MASKED}",
    re.IGNORECASE,
)
REACH = 40
"""Maximum number of characters between such a word and the number, in either order."""
OTHER_NUMBER = re.compile(r"(?:phone|tel|mobile|call|fax|order|paid|pay|costs?|room)[^0-9A-Za-z]{0,3}$", re.IGNORECASE)
"""Before a number that is not a social security number, although its groups have 3, 2 and 4 digits."""
ENTITY = re.compile(r"&nbsp;|&#160;|&#xa0;|%20|<br ?/?>", re.IGNORECASE)
"""A separator in text that was copied from a page or an e-mail."""
YEAR, MONTH, DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
DATE = re.compile("|".join((YEAR + MONTH + DAY, YEAR + DAY + MONTH, DAY + MONTH + YEAR, MONTH + DAY + YEAR)))
EXTRAS = re.compile(rf"(?:\d{{3,4}}|{MONTH} \d\d(?:\d\d)?(?: \d{{3,4}})?)?")
"""Groups that may follow a card number: nothing, a security code, an expiry date, or both."""
SSN_GROUPS = [3, 2, 4]
HYPHENATED_SSN = re.compile(r"(?<!-)\d{3}-\d{2}-\d{4}(?!-)")
MIN_DIGITS = sum(SSN_GROUPS)
"""Digits of the shortest number that is masked. Issued IBANs have at least 12."""
DIGIT = re.compile(r"\d")
COMPATIBILITY_DIGIT = re.compile("[²³¹¼-¾\u2070-\u2089\u2150-\u218f\u2460-\u24ff\u3220-\u33ff\U0001f100-\U0001f10c]")
"""Characters besides decimal digits whose NFKC form has digits (and some whose form has none)."""

Groups: TypeAlias = Sequence[re.Match[str]]
"""Groups of consecutive digits, in the order of the text."""


class AccountNumber(NamedTuple):
    """An account number found in the canonical text, from `start` to `stop` (exclusive)."""

    rank: int
    """Reliability of the match; if two numbers overlap, the lower rank decides the label of the mask."""
    start: int
    stop: int
    kind: str
    """`card`, `IBAN` or `SSN`."""
    shown: str
    """The trailing characters that the mask shows."""


def mask(text: str) -> str:
    """Replace all account numbers in the text by masks. `mask(mask(text)) == mask(text)`."""
    # Most texts have few digits; for them this check replaces the search, which costs 20 to 100 µs.
    if len(DIGIT.findall(text)) < MIN_DIGITS and (text.isascii() or not COMPATIBILITY_DIGIT.search(text)):
        return text
    while (masked := _masked_once(text)) != text:
        # The rest of a longer number may be an account number itself, so repeat. Each pass leaves fewer digits.
        text = masked
    return text


def mask_metadata(value: Any) -> Any:
    """Mask all strings in a JSON-like value. An integer that looks like an account number becomes a masked string."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [mask_metadata(item) for item in value]
    if isinstance(value, Mapping):
        return {mask_metadata(name): mask_metadata(item) for name, item in value.items()}
    if isinstance(value, int) and not isinstance(value, bool) and mask(str(value)) != str(value):
        return mask(str(value))
    return value


def _masked_once(text: str) -> str:
    # An entity becomes one separator and invisible characters, so that the positions in the text stay the same.
    plain = ENTITY.sub(lambda entity: " ".ljust(len(entity[0]), "\u200b"), text)
    forms = [_canonical(character) for character in plain]
    origin = [position for position, form in enumerate(forms) for _ in form]
    pieces, end = [], 0
    for cluster in _clusters(_account_numbers("".join(forms))):
        start, last = cluster[0].start, max(number.stop for number in cluster) - 1
        masks = [f"[{number.kind} …{number.shown}]" for number in _most_reliable(cluster)]
        pieces += [text[end : origin[start]], " ".join(masks)]
        end = origin[last] + 1
    return "".join([*pieces, text[end:]])


def _clusters(numbers: Iterator[AccountNumber]) -> list[list[AccountNumber]]:
    """Group overlapping numbers. All of a cluster is masked, because any of its numbers may be the real one."""
    clusters: list[list[AccountNumber]] = []
    stop = 0
    for number in sorted(numbers, key=lambda number: number.start):
        if number.start >= stop:
            clusters.append([])
        clusters[-1].append(number)
        stop = max(stop, number.stop)
    return clusters


def _most_reliable(cluster: Sequence[AccountNumber]) -> list[AccountNumber]:
    """The numbers of a cluster that get a mask: of overlapping ones the lowest rank, in the order of the text."""
    kept: list[AccountNumber] = []
    for number in sorted(cluster):
        if all(number.stop <= other.start or other.stop <= number.start for other in kept):
            kept.append(number)
    return sorted(kept, key=lambda number: number.start)


@lru_cache(maxsize=4096)
def _canonical(character: str) -> str:
    """The canonical form of one character; NFKC may expand it to several.

    Digits become 0-9. ASCII letters and `+`, `[`, `]` stay. A space or `-` is a separator, `,` a weak separator and `~`
    an invisible character. Any other character becomes `!`, which ends a number.
    """
    form = unicodedata.normalize("NFKC", character)
    if len(form) != 1:
        return "".join(map(_canonical, form))
    if form.isdecimal():
        return str(unicodedata.decimal(form))
    if form.isascii() and (form.isalpha() or form in "+[]"):
        return form
    category = unicodedata.category(form)
    if category == "Pd" or form == "−":
        return "-"
    if form.isspace() or form in VISIBLE:
        return " "
    if form in WEAK:
        return ","
    return "~" if category in ("Cc", "Cf", "Mn", "Me") else "!"


def _account_numbers(text: str) -> Iterator[AccountNumber]:
    """All account numbers in a canonical text; they may overlap."""
    yield from _ibans(text)
    card_words, ssn_words = ([match.span() for match in word.finditer(text)] for word in (CARD_WORD, SSN_WORD))
    for sequence in SEQUENCE.finditer(text):
        groups = list(GROUP.finditer(text, *sequence.span()))
        yield from _cards(text, groups, card_words)
        yield from _ssns(text, groups, ssn_words)


def _near(words: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    """Whether one of the words is at most `REACH` characters away from the number at `start` to `stop`."""
    return any(start - end <= REACH and begin - stop <= REACH for begin, end in words)


def _cards(text: str, groups: Groups, words: Sequence[tuple[int, int]]) -> Iterator[AccountNumber]:
    """Payment cards in a sequence of digit groups. A card starts at the start of a group and ends at the end of one."""
    digits = "".join(group[0] for group in groups)
    ends = list(accumulate(_lengths(groups)))
    group_at = {end: index for index, end in enumerate(ends)}
    for first, start in enumerate([0, *ends[:-1]]):
        for length in CARD_LENGTHS.get(digits[start : start + 4], ()):
            number, last = digits[start : start + length], group_at.get(start + length)
            if last is None or not luhn.is_valid(number):
                continue
            card = groups[first : last + 1]
            begin, end = card[0].start(), card[-1].end()
            certain = _is_certain(card, groups[:first], groups[last + 1 :])
            if _may_be_card(text, card) and (certain or _near(words, begin, end)):
                rank = 3 if not _is_usual(card) else 1 if 14 <= length <= 16 else 2
                yield AccountNumber(rank, begin, end, "card", number[-SHOWN:])


def _is_usual(groups: Groups) -> bool:
    """Whether all groups have at least four digits, as on cards. The last group may be shorter."""
    return all(length >= 4 for length in _lengths(groups[:-1]))


def _is_certain(card: Groups, before: Groups, after: Groups) -> bool:
    """Whether the grouping is sufficient to recognise a card without a word such as "card" nearby."""
    lengths = _lengths(card)
    if len(card) == 1:
        return True
    if lengths == [6, 8]:  # could also be a sort code with an account number
        return False
    if lengths == [4, 4, 4, 1]:  # could also be the end of a longer number in groups of four
        return not before or len(before[-1][0]) != 4
    alone = not before and EXTRAS.fullmatch(" ".join(group[0] for group in after))
    return bool(alone) or (_is_usual(card) and sum(lengths) > 13)


def _may_be_card(text: str, groups: Groups) -> bool:
    """False if the groups look like a phone number, a sort code with an account number, dates, or a list."""
    start, lengths, texts = groups[0].start(), _lengths(groups), [group[0] for group in groups]
    if text[start - 1 : start] == "+" and sum(lengths) <= 15:  # maximum length of a phone number (E.164)
        return False
    triples = ["".join(part) for part in zip(texts, texts[1:], texts[2:], strict=False) if len(part[1]) == 2]
    if any(map(DATE.fullmatch, triples)) or all(map(DATE.fullmatch, texts)):
        return False
    # Single digits with commas are a dictated number; longer groups with commas are a list.
    is_list = max(lengths) > 1 and any("," in text[one.end() : other.start()] for one, other in pairwise(groups))
    other_number = sum(lengths) == 13 or lengths[:3] == [3, 3, 4] or lengths == [2, 2, 2, 8]
    return _is_usual(groups) or not (is_list or other_number)


def _lengths(groups: Groups) -> list[int]:
    return [len(group[0]) for group in groups]


def _ibans(text: str) -> Iterator[AccountNumber]:
    for match in IBAN_START.finditer(text):
        country, start = match[1], match.start()
        is_delimited = country.isupper() and not text[start - 1 : start].isalnum()
        if match[2] and not is_delimited:  # in "no 12…" or "de 12…" the letters are usually a word, not a country code
            continue
        stop, number = start, ""
        while len(number) < _iban_length(country.upper()) and (character := IBAN_CHARACTER.match(text, stop)):
            stop, number = character.end(), number + character[1]
        tail = number[-1:] + text[stop : stop + 1]
        continues = len(tail) == 2 and (tail.isdigit() or tail.isalpha())
        if (is_delimited or not continues) and number and iban.is_valid(number, check_country=False):
            yield AccountNumber(0, start, stop, "IBAN", number[-SHOWN:].upper())


@lru_cache
def _iban_length(country: str) -> int:
    """Length of the IBANs of a country; 0 if the country has none."""
    country_info = numdb.get("iban").info(country)[0][1]
    return 4 + sum(map(int, re.findall(r"(\d+)!", country_info["bban"]))) if country_info else 0


def _ssns(text: str, groups: Groups, words: Sequence[tuple[int, int]]) -> Iterator[AccountNumber]:
    """US social security numbers in a sequence of digit groups.

    Accepted are a complete sequence of 3, 2 and 4 digits, such groups with hyphens inside a longer sequence, and nine
    digits in any grouping near a word such as "SSN".
    """
    windows = [groups[first : first + len(SSN_GROUPS)] for first in range(len(groups))]
    single = [window if _lengths(window) == SSN_GROUPS else window[:1] for window in windows]
    for candidate in (*single, groups):
        number, start, stop = "".join(part[0] for part in candidate), candidate[0].start(), candidate[-1].end()
        if len(number) != sum(SSN_GROUPS) or not ssn.is_valid(number):
            continue
        separated = _lengths(candidate) == SSN_GROUPS
        whole = separated and len(candidate) == len(groups) and "," not in text[start:stop]
        whole = whole and not OTHER_NUMBER.search(text[max(0, start - 12) : start])
        if whole or (separated and HYPHENATED_SSN.match(text, start)) or _near(words, start, stop):
            yield AccountNumber(4, start, stop, "SSN", number[-SHOWN:])
