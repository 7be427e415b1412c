"""The figures that a text states: amounts of money, dates, account numbers, addresses, any other number.

Two ways of writing one figure read the same (£1,204.50 and GBP 1204.5, “one hundred pounds” and £100). No digit is
passed over: what fits no kind is a number or a code still.
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
    kind: NumberKind
    value: str | Decimal | tuple[int | None, int | None, int | None]
    """A date is year, month and day; None where the text leaves one out."""
    unit: str = ""
    """Of an amount: a currency, or `%`."""


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
    # No facts here are stated in these, so each is a unit of its own.
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
"""Where in a text that is still growing a figure may begin or go on."""


def figures(text: str) -> set[TextNumber]:
    """All figures of a text. What is one reads as one: a date is not three numbers besides."""
    text = _with_digits(_without_list_marks(_plain(text)))
    found: set[TextNumber] = set()
    for pattern, read in _READERS:

        def take(match: re.Match[str], read: Callable[[re.Match[str]], TextNumber] = read) -> str:
            found.add(read(match))
            return " | "

        text = pattern.sub(take, text)
    return found


def is_among(figure: TextNumber, known: Iterable[TextNumber]) -> bool:
    """Whether the known figures hold this one, or one that says more: a date with its year, a number's currency."""
    if figure.kind == "date" and isinstance(figure.value, tuple):
        dates = [other.value for other in known if other.kind == "date" and isinstance(other.value, tuple)]
        return any(all(mine in (None, its) for mine, its in zip(figure.value, date, strict=True)) for date in dates)
    if figure.kind == "account":  # its last four characters
        return any(
            other.kind in ("account", "code") and str(other.value).endswith(str(figure.value)) for other in known
        )
    if figure.kind == "number":
        return any(other.kind in ("number", "amount") and other.value == figure.value for other in known)
    return figure in known


def _plain(text: str) -> str:
    """One way of writing digits and spaces; no invisible characters and no Markdown within a number."""
    text = unicodedata.normalize("NFKC", text)
    return "".join(c for c in text if c not in "*_`" and unicodedata.category(c) != "Cf")


def _without_list_marks(text: str) -> str:
    """Without the `1.`, `2.` … that number the lines of a list, as long as they count up from one."""
    marks = 0

    def drop(match: re.Match[str]) -> str:
        nonlocal marks
        if int(match[1]) != marks + 1:
            return match[0]
        marks += 1
        return " "

    return re.sub(r"(?m)^\s*(\d{1,2})[.)](?=\s|$)", drop, text)


def _with_digits(text: str) -> str:
    """`five thousand pounds` → `5000 pounds`. A lone “one” stays a word, unless it counts money."""

    def digits(match: re.Match[str]) -> str:
        money = match["money"] or ""
        words = re.findall(r"[a-z]+", match[0].removesuffix(money).lower())
        before = text[max(0, match.start() - 2) : match.start()]
        scales_digits = len(words) == 1 and words[0] in _SCALES and re.search(r"\d ?$", before)
        if (words == ["one"] and not money) or scales_digits:
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
    """An amount where a currency stands beside it, else a number."""
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
    """`1,204.50`, `1.204,50`, `1 204.50`, `12,50`; None where the marks make no sense."""
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
"""Patterns and what they read, in the order in which they take their part of the text."""
