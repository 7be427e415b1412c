"""Mask account numbers before a message is stored, logged, quoted or sent to a model: `[card …1111]`.

Payment cards need an issuer's prefix and length and a valid Luhn digit, IBANs their country's structure and check
digits. US social security numbers have no check digit, so they need the usual separators or a word such as "SSN".
The search runs on a canonical form of the text: NFKC, any decimal digit as 0-9, separators as spaces.
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
"""Last characters that a mask shows, so that a customer knows which number is meant."""
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
    ("8100", "8171", (16, 17, 18, 19)),
)
"""First prefix, last prefix, lengths. Maestro's prefixes 50, 56-58 and 6 are not listed in full: they would match one
number in seven by chance."""
CARD_LENGTHS = {
    f"{prefix:04}": lengths
    for first, last, lengths in ISSUERS
    for prefix in range(int(first.ljust(4, "0")), int(last.ljust(4, "9")) + 1)
}
"""First four digits → lengths that an issuer uses."""

VISIBLE = "./\\_|·•‧∙⁄∕"
"""Separators besides white space and dashes."""
WEAK = ",:;*"
"""Separators that also make lists, times and amounts: accepted only in a card's usual grouping."""
GAP = re.compile(r"~*(?:[ ,-]~*){0,3}")
"""Between two groups of one number: up to three visible separators, any number of invisible characters."""
GROUP = re.compile(r"[0-9]+")
IBAN_START = re.compile(rf"(?=([A-Za-z]{{2}})({GAP.pattern})[0-9]{GAP.pattern}[0-9])")
IBAN_CHARACTER = re.compile(rf"{GAP.pattern}([A-Za-z0-9])")
MASKED = r"(?! {4}[0-9]{4}\])"
"""Follows a word that is not the word in a mask."""
CARD_WORD = re.compile(
    rf"(?:card|visa|master|maestro|amex|discover|diners|jcb|unionpay|debit|credit|cvv|cvc|expir){MASKED}", re.IGNORECASE
)
SSN_WORD = re.compile(rf"(?:ssn|social {{0,3}}security){MASKED}", re.IGNORECASE)
REACH = 40
"""Characters between such a word and the number, before or after."""
EXTRAS = ([3], [4], [2, 2], [2, 4], [2, 2, 3], [2, 2, 4], [2, 4, 3], [2, 4, 4])
"""Groups that follow a card: a security code, a date of expiry, or both."""
SSN_GROUPS = [3, 2, 4]
HYPHENATED_SSN = re.compile(r"(?<!-)\d{3}-\d{2}-\d{4}(?!-)")

Groups: TypeAlias = Sequence[re.Match[str]]
"""Groups of digits, in the text's order."""

_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


class AccountNumber(NamedTuple):
    """An account number in the canonical form."""

    rank: int
    """Of two numbers that overlap, the lower rank names the mask."""
    start: int
    stop: int
    kind: str
    shown: str


def mask(text: str) -> str:
    """The text with account numbers replaced; all other text stays as it is. `mask(mask(text)) == mask(text)`."""
    while (masked := _masked_once(text)) != text:
        text = masked  # what a mask has cut off may read as a number of its own; each pass leaves fewer digits
    return text


def mask_metadata(value: Any) -> Any:
    """A metadata value with its texts masked; a whole number that reads as an account number becomes a text."""
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
    canonical, origin = _canonical(text)
    pieces, end = [], 0
    for cluster in _clusters(_found(canonical)):
        start, last = cluster[0].start, max(found.stop for found in cluster) - 1
        masks = [f"[{found.kind} …{found.shown}]" for found in _named(cluster)]
        pieces += [text[end : origin[start]], " ".join(masks)]
        end = origin[last] + 1
    return "".join([*pieces, text[end:]])


def _clusters(found: Iterator[AccountNumber]) -> Iterator[list[AccountNumber]]:
    """Numbers that overlap, together, in the text's order: all of them are masked, whichever is the right one."""
    cluster: list[AccountNumber] = []
    stop = 0
    for each in sorted(found, key=lambda each: each.start):
        if cluster and each.start >= stop:
            yield cluster
            cluster = []
        cluster.append(each)
        stop = max(stop, each.stop)
    if cluster:
        yield cluster


def _named(cluster: Sequence[AccountNumber]) -> list[AccountNumber]:
    """The numbers of a cluster that get a mask, best rank first where two overlap, in the text's order."""
    named: list[AccountNumber] = []
    for each in sorted(cluster):
        if all(each.stop <= other.start or other.stop <= each.start for other in named):
            named.append(each)
    return sorted(named, key=lambda each: each.start)


def _canonical(text: str) -> tuple[str, Sequence[int]]:
    """The canonical form, and for each of its characters the position in the text that it comes from."""
    if text.isascii():
        return text.translate(_ASCII), range(len(text))
    forms = [_form(character) for character in text]
    return "".join(forms), [position for position, form in enumerate(forms) for _ in form]


@lru_cache(maxsize=4096)
def _form(character: str) -> str:
    """NFKC of one character, which may be several, each reduced to its class."""
    return "".join(map(_class, unicodedata.normalize("NFKC", character)))


def _class(character: str) -> str:
    """A letter or digit of ASCII, space or hyphen: separator, comma: weak one, ~: invisible; others end a number."""
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


_ASCII = {code: _class(chr(code)) for code in range(128)}


def _found(text: str) -> Iterator[AccountNumber]:
    """All account numbers of a canonical text; they may overlap."""
    yield from _ibans(text)
    card_words, ssn_words = (_spans(word, text) for word in (CARD_WORD, SSN_WORD))
    for groups in _sequences(text):
        yield from _cards(text, groups, card_words)
        yield from _ssns(text, groups, ssn_words)


def _spans(word: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    return [match.span() for match in word.finditer(text)]


def _near(words: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    """Whether one of the words stands near the number from `start` to `stop`."""
    return any(start - end <= REACH and begin - stop <= REACH for begin, end in words)


def _sequences(text: str) -> Iterator[list[re.Match[str]]]:
    """Groups of digits that only separators divide, together."""
    groups: list[re.Match[str]] = []
    for group in GROUP.finditer(text):
        if groups and not GAP.fullmatch(text, groups[-1].end(), group.start()):
            yield groups
            groups = []
        groups.append(group)
    if groups:
        yield groups


def _cards(text: str, groups: Groups, words: Sequence[tuple[int, int]]) -> Iterator[AccountNumber]:
    """Payment cards that begin and end with a group."""
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
    """For numbers that end at an even and at an odd position: the Luhn sum of the first n digits, for each n."""
    return [
        list(accumulate((int(d) if i % 2 != parity else _DOUBLED[int(d)] for i, d in enumerate(digits)), initial=0))
        for parity in (0, 1)
    ]


def _is_usual(groups: Groups) -> bool:
    """Groups of four digits or more, as on cards; the last one may be shorter."""
    return all(len(group[0]) >= 4 for group in groups[:-1])


def _is_certain(card: Groups, before: Groups, after: Groups) -> bool:
    """Whether the grouping itself tells a card from other digits, so that no word such as "card" needs to be near."""
    lengths = _lengths(card)
    if len(card) == 1:
        return True
    if lengths == [6, 8]:  # also a sort code with an account number
        return False
    if lengths == [4, 4, 4, 1]:  # also the end of a longer number in groups of four
        return not before or len(before[-1][0]) != 4
    return (_is_usual(card) and sum(lengths) > 13) or (not before and _are_extras(after))


def _are_extras(groups: Groups) -> bool:
    """Whether nothing follows a card, or only what belongs to it."""
    lengths = _lengths(groups)
    return not groups or (lengths in EXTRAS and (lengths[0] > 2 or 1 <= int(groups[0][0]) <= 12))


def _may_be_card(text: str, groups: Groups) -> bool:
    """Whether the grouping is not that of a phone number, a sort code with an account number, dates, or a list."""
    start, lengths = groups[0].start(), _lengths(groups)
    if text[start - 1 : start] == "+" and sum(lengths) <= 15:  # the longest phone number (E.164)
        return False
    if _is_usual(groups):
        return not _holds_date(groups)
    listed = any("," in text[one.end() : other.start()] for one, other in pairwise(groups))
    odd = sum(lengths) == 13 or lengths[:3] == [3, 3, 4] or lengths == [2, 2, 2, 8]
    return not (listed or odd or _holds_date(groups))


def _lengths(groups: Groups) -> list[int]:
    return [len(group[0]) for group in groups]


def _holds_date(groups: Groups) -> bool:
    """Whether three groups in a row read as a date, or all groups do."""
    texts = [group[0] for group in groups]
    triples = ["".join(part) for part in zip(texts, texts[1:], texts[2:], strict=False) if len(part[1]) == 2]
    return any(map(_is_date, triples)) or all(map(_is_date, texts))


def _is_date(text: str) -> bool:
    """Whether digits are a year from 1900 to 2099, before or after day and month in either order."""
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
        apart = country.isupper() and not before.isalnum()
        if match[2] and not apart:  # "no 12…", "de 12…" are words more often than countries
            continue
        stop, number = start, ""
        for _ in range(_iban_length(country.upper())):
            character = IBAN_CHARACTER.match(text, stop)
            if character is None:
                break
            stop, number = character.end(), number + character[1]
        goes_on = number[-1:].isdigit() and text[stop : stop + 1].isdigit()
        goes_on |= number[-1:].isalpha() and text[stop : stop + 1].isalpha()
        if (apart or not goes_on) and number and iban.is_valid(number):
            yield AccountNumber(0, start, stop, "IBAN", number[-SHOWN:].upper())


@lru_cache
def _iban_length(country: str) -> int:
    """Characters of a country's IBAN; 0 where it has none."""
    about = numdb.get("iban").info(country)[0][1]
    return 4 + sum(map(int, re.findall(r"(\d+)!", about["bban"]))) if about else 0


def _ssns(text: str, groups: Groups, words: Sequence[tuple[int, int]]) -> Iterator[AccountNumber]:
    """Social security numbers: a whole sequence of 3, 2 and 4 digits, one with hyphens, or any near the word."""
    for first, group in enumerate(groups):
        chosen = groups[first : first + len(SSN_GROUPS)]
        separated = [len(one[0]) for one in chosen] == SSN_GROUPS
        if not separated:
            chosen = [group]
        number, start, stop = "".join(one[0] for one in chosen), chosen[0].start(), chosen[-1].end()
        if len(number) != sum(SSN_GROUPS) or not ssn.is_valid(number):
            continue
        whole = separated and len(chosen) == len(groups) and "," not in text[start:stop]
        hyphens = separated and HYPHENATED_SSN.match(text, start)
        if whole or hyphens or _near(words, start, stop):
            yield AccountNumber(4, start, stop, "SSN", number[-SHOWN:])
