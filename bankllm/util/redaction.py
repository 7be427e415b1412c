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

from stdnum import iban, numdb
from stdnum.us import ssn

SHOWN = 4
"""Number of trailing characters that a mask shows, so that a customer can recognise the number."""
ISSUERS = (
    ("300", "305", (14, 16)),  # Diners Club
    ("3095", "3095", (14, 16)),
    ("36", "36", (14, 16)),
    ("38", "39", (14, 16)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("3528", "3589", (16, 19)),  # JCB
    ("4", "4", (13, 16, 19)),  # Visa
    ("2200", "2204", (16, 19)),  # Mir
    ("2221", "2720", (16,)),  # Mastercard
    ("51", "55", (16,)),
    ("5018", "5018", (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    ("5019", "5020", (13, 14, 15, 16, 17, 18, 19)),
    ("5038", "5038", (13, 14, 15, 16, 17, 18, 19)),
    ("5893", "5893", (13, 14, 15, 16, 17, 18, 19)),
    ("6304", "6304", (13, 14, 15, 16, 17, 18, 19)),
    ("6759", "6759", (13, 14, 15, 16, 17, 18, 19)),
    ("6761", "6763", (13, 14, 15, 16, 17, 18, 19)),
    ("6011", "6011", (16, 19)),  # Discover
    ("644", "649", (16, 19)),
    ("65", "65", (16, 19)),
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("8100", "8199", (16, 17, 18, 19)),
    ("5060", "5061", (16, 19)),  # Verve
    ("5067", "5067", (16,)),  # Elo
    ("6363", "6363", (16,)),
    ("6062", "6062", (16,)),  # Hipercard
    ("5085", "5089", (16,)),  # RuPay
    ("9792", "9792", (16,)),  # Troy
)
"""Card issuers: first prefix, last prefix, possible lengths. Maestro's ranges 50, 56-58 and 6 are not listed in full:
they would match one random number in seven."""
CARD_LENGTHS = {
    f"{prefix:04}": lengths
    for first, last, lengths in ISSUERS
    for prefix in range(int(first.ljust(4, "0")), int(last.ljust(4, "9")) + 1)
}
"""First four digits of a card number → possible lengths."""

VISIBLE = "./\\_|·•‧∙⁄∕"
"""Separators in addition to white space and dashes."""
WEAK = ",:;*"
"""Separators that also occur in lists, times and amounts. Accepted only in the usual grouping of a card."""
GAP = re.compile(r"~*(?:[ ,-]~*){0,3}")
"""What may separate two groups of one number: up to three visible separators, any number of invisible characters."""
GROUP = re.compile(r"[0-9]+")
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
OTHER_NUMBER = re.compile(r"(?:phone|tel|mobile|call|fax|order|paid|pay|costs?|room)[^0-9A-Za-z]{0,3}$", re.IGNORECASE)
"""Before a number that is not a social security number, although its groups have 3, 2 and 4 digits."""
ENTITY = re.compile(r"&nbsp;|&#160;|&#xa0;|%20|<br ?/?>", re.IGNORECASE)
"""A separator in text that was copied from a page or an e-mail."""
REACH = 40
"""Maximum number of characters between such a word and the number, in either order."""
EXTRAS = ([3], [4], [2, 2], [2, 4], [2, 2, 3], [2, 2, 4], [2, 4, 3], [2, 4, 4])
"""Lengths of digit groups that may follow a card number: a security code, an expiry date, or both."""
SSN_GROUPS = [3, 2, 4]
"""Lengths of the digit groups of a social security number."""
HYPHENATED_SSN = re.compile(r"(?<!-)\d{3}-\d{2}-\d{4}(?!-)")

Groups: TypeAlias = Sequence[re.Match[str]]
"""Groups of consecutive digits, in the order of the text."""

_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""Digit → digit sum of its double, as the Luhn algorithm needs it."""


class AccountNumber(NamedTuple):
    """An account number found in the canonical text."""

    rank: int
    """Reliability of the match; if two numbers overlap, the lower rank decides the label of the mask."""
    start: int
    stop: int
    """`start` and `stop` (exclusive) are positions in the canonical text."""
    kind: str
    """`card`, `IBAN` or `SSN`."""
    shown: str
    """The trailing characters that the mask shows."""


MIN_DIGITS = 9
"""Digits of the shortest number that is masked, a social security number. Issued IBANs have at least 12."""
DIGIT = re.compile(r"\d")
COMPATIBILITY_DIGIT = re.compile("[²³¹¼-¾\u2070-\u2089\u2150-\u218f\u2460-\u24ff\u3220-\u33ff\U0001f100-\U0001f10c]")
"""Characters besides decimal digits whose NFKC form has digits (and some whose form has none)."""


def mask(text: str) -> str:
    """Replace all account numbers in the text by masks; all other text stays unchanged.

    The function is idempotent: `mask(mask(text)) == mask(text)`.
    """
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
    canonical, origin = _canonical(plain)
    pieces, end = [], 0
    for cluster in _clusters(_account_numbers(canonical)):
        start, last = cluster[0].start, max(number.stop for number in cluster) - 1
        masks = [f"[{number.kind} …{number.shown}]" for number in _most_reliable(cluster)]
        pieces += [text[end : origin[start]], " ".join(masks)]
        end = origin[last] + 1
    return "".join([*pieces, text[end:]])


def _clusters(numbers: Iterator[AccountNumber]) -> Iterator[list[AccountNumber]]:
    """Group overlapping numbers, in the order of the text.

    The whole range of a cluster is masked, because it is not known which of its numbers is the real one.
    """
    cluster: list[AccountNumber] = []
    stop = 0
    for number in sorted(numbers, key=lambda number: number.start):
        if cluster and number.start >= stop:
            yield cluster
            cluster = []
        cluster.append(number)
        stop = max(stop, number.stop)
    if cluster:
        yield cluster


def _most_reliable(cluster: Sequence[AccountNumber]) -> list[AccountNumber]:
    """The numbers of a cluster that get a mask: of overlapping ones the lowest rank, in the order of the text."""
    kept: list[AccountNumber] = []
    for number in sorted(cluster):
        if all(number.stop <= other.start or other.stop <= number.start for other in kept):
            kept.append(number)
    return sorted(kept, key=lambda number: number.start)


def _canonical(text: str) -> tuple[str, Sequence[int]]:
    """The canonical form of the text, and for each of its characters the position of its source in the text."""
    if text.isascii():
        return text.translate(_ASCII), range(len(text))
    forms = [_canonical_character(character) for character in text]
    return "".join(forms), [position for position, form in enumerate(forms) for _ in form]


@lru_cache(maxsize=4096)
def _canonical_character(character: str) -> str:
    """The canonical form of one character; NFKC may expand it to several."""
    return "".join(map(_character_class, unicodedata.normalize("NFKC", character)))


def _character_class(character: str) -> str:
    """One ASCII character that represents the class of the character.

    Digits become 0-9. ASCII letters and `+`, `[`, `]` stay. A space or `-` is a separator, `,` a weak separator and `~`
    an invisible character. Any other character becomes `!`, which ends a number.
    """
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    if character.isascii() and (character.isalpha() or character in "+[]"):
        return character
    category = unicodedata.category(character)
    if category == "Pd" or character == "−":
        return "-"
    if character.isspace() or character in VISIBLE:
        return " "
    if character in WEAK:
        return ","
    return "~" if category in ("Cc", "Cf", "Mn", "Me") else "!"


_ASCII = {code: _character_class(chr(code)) for code in range(128)}


def _account_numbers(text: str) -> Iterator[AccountNumber]:
    """All account numbers in a canonical text. They may overlap."""
    yield from _ibans(text)
    card_words, ssn_words = (_spans(word, text) for word in (CARD_WORD, SSN_WORD))
    for groups in _sequences(text):
        yield from _cards(text, groups, card_words)
        yield from _ssns(text, groups, ssn_words)


def _spans(word: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    return [match.span() for match in word.finditer(text)]


def _near(words: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    """Whether one of the words is at most `REACH` characters away from the number at `start` to `stop`."""
    return any(start - end <= REACH and begin - stop <= REACH for begin, end in words)


def _sequences(text: str) -> Iterator[list[re.Match[str]]]:
    """Sequences of digit groups with only separators between the groups."""
    groups: list[re.Match[str]] = []
    for group in GROUP.finditer(text):
        if groups and not GAP.fullmatch(text, groups[-1].end(), group.start()):
            yield groups
            groups = []
        groups.append(group)
    if groups:
        yield groups


def _cards(text: str, groups: Groups, words: Sequence[tuple[int, int]]) -> Iterator[AccountNumber]:
    """Payment cards in a sequence of digit groups. A card starts at the start of a group and ends at the end of one."""
    digits = "".join(group[0] for group in groups)
    ends = list(accumulate(len(group[0]) for group in groups))
    group_at = {end: index for index, end in enumerate(ends)}
    sums = _luhn_sums(digits)
    for first, start in enumerate([0, *ends[:-1]]):
        for length in CARD_LENGTHS.get(digits[start : start + 4], ()):
            stop = start + length
            last = group_at.get(stop)
            if last is None or (sums[stop % 2][stop] - sums[stop % 2][start]) % 10:
                continue
            card, rest = groups[first : last + 1], (groups[:first], groups[last + 1 :])
            begin, end = card[0].start(), card[-1].end()
            if _may_be_card(text, card) and (_is_certain(card, *rest) or _near(words, begin, end)):
                rank = 3 if not _is_usual(card) else 1 if 14 <= length <= 16 else 2
                yield AccountNumber(rank, begin, end, "card", digits[stop - SHOWN : stop])


def _luhn_sums(digits: str) -> list[list[int]]:
    """Cumulative Luhn sums, so that the check of a substring costs O(1).

    `result[p][n]` is the Luhn sum of the first n digits if the checked number ends at a position of parity p.
    """
    return [
        list(accumulate((int(d) if i % 2 != parity else _DOUBLED[int(d)] for i, d in enumerate(digits)), initial=0))
        for parity in (0, 1)
    ]


def _is_usual(groups: Groups) -> bool:
    """Whether all groups have at least four digits, as on cards. The last group may be shorter."""
    return all(len(group[0]) >= 4 for group in groups[:-1])


def _is_certain(card: Groups, before: Groups, after: Groups) -> bool:
    """Whether the grouping is sufficient to recognise a card without a word such as "card" nearby."""
    lengths = _lengths(card)
    if len(card) == 1:
        return True
    if lengths == [6, 8]:  # could also be a sort code with an account number
        return False
    if lengths == [4, 4, 4, 1]:  # could also be the end of a longer number in groups of four
        return not before or len(before[-1][0]) != 4
    return (_is_usual(card) and sum(lengths) > 13) or (not before and _are_extras(after))


def _are_extras(groups: Groups) -> bool:
    """Whether the groups after a card are empty, or only its security code or expiry date."""
    lengths = _lengths(groups)
    return not groups or (lengths in EXTRAS and (lengths[0] > 2 or 1 <= int(groups[0][0]) <= 12))


def _may_be_card(text: str, groups: Groups) -> bool:
    """Whether the groups can be a card number.

    False if they look like a phone number, a sort code with an account number, dates, or a list.
    """
    start, lengths = groups[0].start(), _lengths(groups)
    if text[start - 1 : start] == "+" and sum(lengths) <= 15:  # maximum length of a phone number (E.164)
        return False
    if _is_usual(groups):
        return not _holds_date(groups)
    # Single digits with commas are a dictated number; longer groups with commas are a list.
    is_list = max(lengths) > 1 and any("," in text[one.end() : other.start()] for one, other in pairwise(groups))
    other_number = sum(lengths) == 13 or lengths[:3] == [3, 3, 4] or lengths == [2, 2, 2, 8]
    return not (is_list or other_number or _holds_date(groups))


def _lengths(groups: Groups) -> list[int]:
    return [len(group[0]) for group in groups]


def _holds_date(groups: Groups) -> bool:
    """Whether three consecutive groups form a date, or every group is a date."""
    texts = [group[0] for group in groups]
    triples = ["".join(part) for part in zip(texts, texts[1:], texts[2:], strict=False) if len(part[1]) == 2]
    return any(map(_is_date, triples)) or all(map(_is_date, texts))


def _is_date(text: str) -> bool:
    """Whether the digits are a year from 1900 to 2099 before or after day and month, in either order."""
    if len(text) != 8:
        return False
    parts = (text[:4], text[4:6], text[6:]), (text[4:], text[:2], text[2:4])
    return any(
        year[:2] in ("19", "20") and 1 <= min(int(one), int(other)) <= 12 and max(int(one), int(other)) <= 31
        for year, one, other in parts
    )


def _ibans(text: str) -> Iterator[AccountNumber]:
    for match in IBAN_START.finditer(text):
        country, start = match[1], match.start()
        before = text[start - 1 : start]
        is_delimited = country.isupper() and not before.isalnum()
        if match[2] and not is_delimited:  # in "no 12…" or "de 12…" the letters are usually a word, not a country code
            continue
        stop, number = start, ""
        for _ in range(_iban_length(country.upper())):
            character = IBAN_CHARACTER.match(text, stop)
            if character is None:
                break
            stop, number = character.end(), number + character[1]
        continues = number[-1:].isdigit() and text[stop : stop + 1].isdigit()
        continues |= number[-1:].isalpha() and text[stop : stop + 1].isalpha()
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
        separated = _lengths(candidate) == SSN_GROUPS
        number, start, stop = "".join(part[0] for part in candidate), candidate[0].start(), candidate[-1].end()
        if len(number) != sum(SSN_GROUPS) or not ssn.is_valid(number):
            continue
        whole = separated and len(candidate) == len(groups) and "," not in text[start:stop]
        whole = whole and not OTHER_NUMBER.search(text[max(0, start - 12) : start])
        hyphens = separated and HYPHENATED_SSN.match(text, start)
        if whole or hyphens or _near(words, start, stop):
            yield AccountNumber(4, start, stop, "SSN", number[-SHOWN:])
