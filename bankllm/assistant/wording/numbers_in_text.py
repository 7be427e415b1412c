"""Find the numbers that a text states: amounts of money, dates, account numbers, addresses, and all other numbers.

Different notations of the same number give the same result (£1,204.50 and GBP 1204.5, “one hundred pounds” and £100).
No digit is ignored: a digit that fits no other kind is found as a `number` or a `code`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from bankllm.assistant.bank.ledger import SYMBOLS

NumberKind = Literal["address", "account", "amount", "code", "count", "date", "number", "unclear"]


@dataclass(frozen=True)
class TextNumber:
    """A number, date, code or address that a text states, in normalised form."""

    kind: NumberKind
    value: str | Decimal | tuple[int | None, int | None, int | None]
    """A date is (year, month, day), with None for a part that the text omits."""
    unit: str = ""
    """The unit of an amount: a currency, or `%`. For a count: the noun."""


_UP_TO_19 = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {
    **{word: number for number, word in enumerate(_UP_TO_19.split())},
    **{word: 10 * number for number, word in enumerate(_TENS.split(), start=2)},
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_SCALE_MARKS = {"k": 1000, "m": 10**6, "mn": 10**6, "bn": 10**9, **_SCALES}
_MONEY_WORDS = {
    **dict.fromkeys(("pound", "pounds", "quid"), "GBP"),
    **dict.fromkeys(("euro", "euros"), "EUR"),
    **dict.fromkeys(("dollar", "dollars", "buck", "bucks"), "USD"),
    "yen": "JPY",
    # No fact uses these currencies, so each word is treated as a separate unit.
    **{
        f"{word}{s}": word
        for word in ("franc", "rupee", "rouble", "dirham", "lira", "peso", "grand")
        for s in ("", "s")
    },
    **dict.fromkeys(("krona", "kronor", "krone", "kroner", "yuan", "zloty", "rand"), "other"),
}
_UNITS = {
    **_MONEY_WORDS,
    **{symbol: code for code, symbol in SYMBOLS.items()},
    "US$": "USD",
    **dict.fromkeys(("p", "penny", "pence"), "pence"),
    **dict.fromkeys(("percent", "per cent", "%"), "%"),
    **dict.fromkeys(("cent", "cents"), "cents"),
}
_MONTHS = [
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
]


def _any_of(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_SYMBOL = "[$¢£¤¥\u20a0-\u20cf]"  # the last is Unicode's block of currency symbols
_CODE = "(?<![^\\W_])[A-Z]{3}(?![A-Za-z])"
_UNIT_WORD = rf"(?i:{_any_of(unit for unit in _UNITS if unit.isascii() and unit[0].islower())})\b"
_MONEY_WORD = rf"(?i:{_any_of(_MONEY_WORDS)})\b"
_MONTH = rf"(?P<m>(?i:{_any_of(_MONTHS)}|{_any_of(month[:3] for month in _MONTHS)}|sept))\b\.?"
_DAY = r"(?<!\d)(?P<d>\d{1,2})(?:st|nd|rd|th)?(?![\d.,]*\d)"
_YEAR = r"(?:,? (?P<y>\d{4})\b(?![.,]\d))?"
_NUMBER = r"(?:\d{1,3}(?:[ ,'’]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)*|\.\d+)(?![.,]?\d)"
_SPELLED = rf"(?:{_any_of((*_NUMBER_WORDS, *_SCALES))})"
_SPELLED_OUT = re.compile(
    rf"\b{_SPELLED}(?:(?:[ -]|(?:(?<=hundred)|(?<=thousand)|(?<=million)) and ){_SPELLED})*\b(?P<money> {_UNIT_WORD})?",
    re.IGNORECASE,
)
MAY_BE_PART = re.compile(
    rf"\d|{_SYMBOL}|[%@\[…]|\.\.|://|\bwww\b|{_CODE}|{_MONTH}|\b{_UNIT_WORD}"
    rf"|\b(?i:{_SPELLED}|minus|negative|ending|\w+day|tomorrow)\b"
)
"""Matches where a number may start or continue in a text that is not yet complete."""


def find_numbers(text: str) -> set[TextNumber]:
    """All numbers of a text. Each part of the text is read once: a date does not also count as three numbers."""
    text = _with_digits(_without_list_marks(_normalise(text)))
    found: set[TextNumber] = set()
    for pattern, read in _READERS:

        def collect(match: re.Match[str], read: Callable[[re.Match[str]], TextNumber] = read) -> str:
            found.add(read(match))
            return " | "

        text = pattern.sub(collect, text)
    return found


def is_among(number: TextNumber, known: Iterable[TextNumber]) -> bool:
    """Whether the known numbers contain this one, or a more specific one.

    A date with a year is more specific than the same date without one, and an amount than the same number.
    """
    if number.kind == "date" and isinstance(number.value, tuple):
        dates = [other.value for other in known if other.kind == "date" and isinstance(other.value, tuple)]
        return any(all(part in (None, full) for part, full in zip(number.value, date, strict=True)) for date in dates)
    if number.kind == "account":  # only its last four characters
        return any(
            other.kind in ("account", "code") and str(other.value).endswith(str(number.value)) for other in known
        )
    if number.kind == "number":
        return any(other.kind in ("number", "amount") and other.value == number.value for other in known)
    return number in known


def _normalise(text: str) -> str:
    """Normalise digits and spaces (NFKC), and remove invisible characters and Markdown marks within numbers."""
    text = unicodedata.normalize("NFKC", text)
    return "".join(c for c in text if c not in "*_`" and unicodedata.category(c) != "Cf")


def _without_list_marks(text: str) -> str:
    """Remove the list numbers `1.`, `2.`, … at the start of lines, as long as they count up from one."""
    marks = 0

    def drop(match: re.Match[str]) -> str:
        nonlocal marks
        if int(match[1]) != marks + 1:
            return match[0]
        marks += 1
        return " "

    return re.sub(r"(?m)^\s*(\d{1,2})[.)](?=\s|$)", drop, text)


def _with_digits(text: str) -> str:
    """Replace number words by digits: `five thousand pounds` → `5000 pounds`. Keep “one” unless money follows."""

    def digits(match: re.Match[str]) -> str:
        money = match["money"] or ""
        words = re.findall(r"[a-z]+", match[0].removesuffix(money).lower())
        before = text[max(0, match.start() - 2) : match.start()]
        follows_digit = len(words) == 1 and words[0] in _SCALES and re.search(r"\d ?$", before)
        if (words == ["one"] and not money) or follows_digit:
            return match[0]
        total = current = 0
        for word in words:
            if word in _NUMBER_WORDS:
                current += _NUMBER_WORDS[word]
            elif word == "hundred":
                current = (current or 1) * 100
            elif word in _SCALES:
                total, current = total + (current or 1) * _SCALES[word], 0
        return f"{total + current}{money}"

    return _SPELLED_OUT.sub(digits, text)


def _date(match: re.Match[str]) -> TextNumber:
    parts = match.groupdict()
    year, month, day = (parts.get(name) for name in "ymd")
    if year and len(year) == 2:
        year = f"20{year}"
    names = [name[:3] for name in _MONTHS]
    number = None if month is None else int(month) if month.isdecimal() else names.index(month[:3].lower()) + 1
    return TextNumber("date", (int(year) if year else None, number, int(day) if day else None))


def _number(match: re.Match[str]) -> TextNumber:
    """An amount if a currency precedes or follows the number, otherwise a plain number."""
    units = {_UNITS.get(unit, _UNITS.get(unit.lower(), unit)) for unit in match.group("before", "after") if unit}
    if not units and match["later"]:
        units = {_UNITS[match["later"].lower()]}
    value = _decimal(match["number"])
    if value is None or len(units) > 1:
        return TextNumber("unclear", match[0])
    value *= _SCALE_MARKS[match["scale"].lower()] if match["scale"] else 1
    value = -value if match["sign"] or match["sign_after"] else value
    if units == {"pence"}:
        value, units = value / 100, {"GBP"}
    return TextNumber("amount", value.normalize(), units.pop()) if units else TextNumber("number", value.normalize())


def _decimal(number: str) -> Decimal | None:
    """Parse `1,204.50`, `1.204,50`, `1 204.50`, `12,50`; None if the separators are inconsistent."""
    number = re.sub("[ '’]", "", number)
    comma, dot = number.rfind(","), number.rfind(".")
    thousands, point = (".", ",") if comma > dot >= 0 or re.fullmatch(r"\d+,\d{1,2}", number) else (",", ".")
    whole, _, fraction = number.partition(point)
    groups = whole.split(thousands)
    if (fraction and not fraction.isdecimal()) or any(len(group) != 3 for group in groups[1:]):
        return None
    return Decimal(f"{''.join(groups) or 0}.{fraction or 0}")


_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], TextNumber]], ...] = (
    (
        re.compile(r"(?i:https?://|\bwww\.)\S+|[\w.+-]+@[\w-]+\.\w+"),
        lambda match: TextNumber("address", match[0].rstrip(".,;:!?)").lower()),
    ),
    (
        re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
        lambda match: TextNumber("code", match[0].replace(" ", "").lower()),
    ),
    (re.compile(r"(?:\.\.\.|\b(?i:ending)(?: in| with)?) ?(\d{4})\b"), lambda match: TextNumber("account", match[1])),
    (re.compile(r"(?<![\d-])(?P<y>\d{4})[-/](?P<m>\d{1,2})[-/](?P<d>\d{1,2})(?![\d-])"), _date),
    (re.compile(r"(?<![\d.])(?P<d>\d{1,2})[-/.](?P<m>\d{1,2})[-/.](?P<y>\d{4}|\d\d)(?![\d-])"), _date),
    (re.compile(rf"{_DAY} (?:of )?{_MONTH}{_YEAR}"), _date),
    (re.compile(rf"\b{_MONTH} {_DAY}{_YEAR}"), _date),
    (re.compile(rf"\b{_MONTH},? (?P<y>\d{{4}})\b(?![.,]\d)"), _date),
    (re.compile(rf"\b(?P<m>{_any_of(month.capitalize() for month in _MONTHS if month != 'may')})\b"), _date),
    (
        re.compile(r"(?i)\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|yesterday|tomorrow)\b"),
        lambda match: TextNumber("code", match[0].lower()),
    ),
    (
        re.compile(
            r"(?<![\w.,$¢£¤¥\u20a0-\u20cf-])(\d{1,3}) (?:(?:most|recent|latest|last|newest|of|your|the) )*"
            r"(?P<noun>account|transaction)s?\b"
        ),
        lambda match: TextNumber("count", Decimal(match[1]), match["noun"]),
    ),
    (
        re.compile(
            rf"(?P<sign>(?<!\w)[-‐−–]|\b(?i:minus|negative) )?"
            rf"(?:(?P<before>[A-Z]{{0,3}}{_SYMBOL}|{_CODE}|\b{_MONEY_WORD})[):\s]{{0,3}}|(?<![^\W_]))(?P<sign_after>[-‐−–])?"
            rf"(?P<number>{_NUMBER})(?:\s?(?P<scale>(?i:{_any_of(_SCALE_MARKS)}))\b)?"
            rf"(?:\s{{0,2}}(?P<after>(?:{_SYMBOL}|[A-Z]{{3}}(?![A-Za-z]))(?!\s{{0,2}}\d)|%|{_UNIT_WORD}))?(?![^\W_])"
            rf"(?:\s(?:[A-Za-z]+\s){{1,2}}(?P<later>{_MONEY_WORD}))?"  # 10 or so pounds
        ),
        _number,
    ),
    (re.compile(r"[^\W_]*\d[^\W_]*"), lambda match: TextNumber("code", match[0].lower())),
)
"""Patterns with their parsers, in order. Text that one pattern has matched is not visible to the next ones."""
