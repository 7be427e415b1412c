"""Find the figures of a text: amounts of money, dates, account numbers, addresses and all other numbers.

The service compares a model's reply with its facts by them, and training scores replies by them. Figures of the same
value in another notation are equal: `£1,204.50` and `£1204.5`, `two` and `2`, `18 Nov 2026` and `2026-11-18`. A number
is never read as another one, and no digit is ignored.
"""

import calendar
import re
import unicodedata
from datetime import date

_UP_TO_19 = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBERS = {word: number for number, word in enumerate(_UP_TO_19.split())} | {
    word: 10 * number for number, word in enumerate(_TENS.split(), start=2)
}
_MONTHS = [name.lower() for name in calendar.month_name[1:]]
_WORDS = frozenset(
    (
        f"{' '.join(_NUMBERS)} hundred thousand million billion dozen percent quid grand "
        "monday tuesday wednesday thursday friday saturday sunday yesterday tomorrow"
    ).split()
) - {"one"}
"""Words that are figures."""
_WEEKDAYS = frozenset(name.lower() for name in calendar.day_name)
_PARTS = frozenset(
    (
        "one minus negative p k m mn bn sept pound pounds euro euros cent cents pence penny dollar dollars buck bucks "
        "yen franc francs rupee rupees rouble roubles dirham dirhams lira liras peso pesos krona kronor krone kroner "
        f"yuan zloty rand {' '.join(_MONTHS)} {' '.join(m[:3] for m in _MONTHS)}"
    ).split()
)
"""Words that are a figure only together with another one: `one` in “one million”, `May` in “5 May”."""
_SYMBOL = "[%$¢£¤¥\u20a0-\u20cf]"  # the last is Unicode's block of currency symbols
_CODES = (
    "AED ARS AUD BDT BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP GHS HKD HUF IDR ILS INR ISK JPY KES KRW KWD LKR "
    "MAD MXN MYR NGN NOK NPR NZD PEN PHP PKR PLN QAR RON RSD SAR SEK SGD THB TND TRY TWD UAH USD VND ZAR"
)
_CODE = _CODES.replace(" ", "|")
"""ISO 4217. Other capitals are names: “EDF £31.44”."""
_MONTH_NAME = "|".join(month.capitalize() for month in _MONTHS if month != "may")
_ADDRESS = r"://|\bwww\.|@"
_CERTAIN = re.compile(rf"\d|{_SYMBOL}|{_ADDRESS}|^(?:{_MONTH_NAME})$")
_OPENING, _CLOSING, _BREAK = "([{<\"'“‘«:;,!?", ")]}>\"'”’»:;,!?.", ".,;:!?"

_MONTH_WORD = "|".join(
    f"{month[:3]}(?:{month[3:]})?" if month != "september" else "sept?(?:ember)?" for month in _MONTHS
)
_DAY = r"(?<![\d.,:£€$])(\d{1,2})(?:st|nd|rd|th)?"
_SEVERAL_DAYS = re.compile(
    rf"\b{_DAY}((?:,|,? ?(?:and|to|or|until|through|back to|[-–])) ?)"
    rf"(?=\d{{1,2}}(?:st|nd|rd|th)? (?:of )?({_MONTH_WORD})\b(?:,? (\d{{4}}))?)",
    re.IGNORECASE,
)
_ONE_DATE = re.compile(rf"\b{_DAY} (?:of )?({_MONTH_WORD})\b,?(?: (\d{{4}})\b)?", re.IGNORECASE)
_MONTH_FIRST = re.compile(
    rf"\b({_MONTH_WORD}) (\d{{1,2}})(?:st|nd|rd|th)?\b(?![\d:.,]*\d)(?:,? (\d{{4}})\b)?", re.IGNORECASE
)
_DATE = re.compile(rf"(?:(\d{{1,2}}) )?({_MONTH_WORD})(?: (\d{{4}}))?")
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_SIGN_FIRST = re.compile(rf"([-+−])({_CODE}) (?=\d)")
_CODE_FIRST = re.compile(rf"({_CODE.lower()}) (\S*\d\S*)")
_AMOUNT = re.compile(r"([-+−–]?)(\D*)(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(\D*)")


def find_figures(text: str) -> frozenset[str]:
    """Return all figures of a text. Parts that follow each other are one figure: “10 million pounds”.

    Dates are written `18 november 2026`, as far as they are named; numbers without separators and closing zeros.
    """
    text = unicodedata.normalize("NFKC", text).replace("...", " ")
    text = "".join(c for c in text if c not in "*_`" and unicodedata.category(c) != "Cf")
    text = _with_plain_dates(text)
    runs: list[list[tuple[str, bool]]] = [[]]  # words that follow each other, and whether each is a figure by itself
    for token in text.split():
        left = token.lstrip(_OPENING)
        word = left.rstrip(_CLOSING)
        lower = word.casefold()
        is_certain = bool(_CERTAIN.search(word)) or set(lower.split("-")) <= _WORDS
        if not (is_certain or lower in _PARTS or re.fullmatch(_CODE, word)):
            runs.append([])
            continue
        before = [part for part, _ in runs[-1]]
        if before and _ends_run(before, lower, token):
            runs.append([])
        runs[-1].append((_number(lower), is_certain))
        if set(left[len(word) :]) & set(_BREAK):
            runs.append([])
    return frozenset(
        _CODE_FIRST.sub(r"\2 \1", " ".join(word for word, _ in run))
        for run in runs
        if any(certain for _, certain in run) or (len(run) > 1 and run[0][0] == "1")
    )


def _ends_run(before: list[str], word: str, token: str) -> bool:
    """Whether a word begins a new figure, although it follows a part of a figure."""
    last, has_digit = before[-1], bool(re.search(r"\d", word))
    if token.startswith("(") or last in _WEEKDAYS or word in _WEEKDAYS:
        return True
    if re.fullmatch(_MONTH_WORD, last):  # “in November: £10.00”
        return not re.fullmatch(r"\d{4}", word)
    if re.fullmatch(r"\d{4}", last) and (len(before) > 1 or re.fullmatch(_MONTH_WORD, word)):
        return True  # a date ends with its year
    # Two numbers that follow each other, and not the thousands of one number.
    is_number = (has_digit and not re.match(r"\d{3}\b", word)) or (word in _NUMBERS and not last.isdigit())
    return is_number and bool(re.search(r"\d", last))


def known_figures(text: str) -> frozenset[str]:
    """Return the figures that a reply may state if `text` has the facts, one a line.

    Beside those of `find_figures`: an amount without its sign, the weekday of a date, a date without its day or its
    year, and numbers from two to that of the facts or of the entries of one.
    """
    known = {*find_figures(text), *(_month(word).lower() for word in re.findall(rf"(?i)\b(?:{_MONTH_WORD})\b", text))}
    for figure in tuple(known):
        known.add(re.sub(r"^(?:[-+]|minus |negative )(?=\S*\d)", "", figure))
        if (found := _DATE.fullmatch(figure)) and found[1]:
            day, month, year = found.groups()
            ordinal = {"1": "st", "2": "nd", "3": "rd"}.get(day[-1] if day[0] != "1" or len(day) == 1 else "", "th")
            known |= {f"{day} {month}", f"{day}{ordinal}", month}
            known |= {f"{month} {year}", year, _weekday(found)} if year else set()
        elif found and found[3]:
            known |= {found[2], found[3]}
    lines = text.splitlines()
    return frozenset(known | {str(number) for number in range(2, max([len(lines), *map(_entries, lines)]) + 1)})


def _entries(line: str) -> int:
    """The number of entries in a fact such as “2 transactions: …; …” or “Two merchants fit: Uber, Uber Eats”."""
    listed = line.partition(": ")[2]
    return listed.count(";" if re.search(r"\d", listed) else ",") + 1


def _weekday(found: re.Match[str]) -> str:
    """The weekday of a `_DATE`; the month for a date that does not exist."""
    try:
        return calendar.day_name[date(int(found[3]), _MONTHS.index(found[2]) + 1, int(found[1])).weekday()].lower()
    except ValueError:
        return found[2]


def _with_plain_dates(text: str) -> str:
    """Write dates as day, month and year: of ISO dates, of “November 18th, 2026”, and of “1 to 5 May 2026”."""
    text = re.sub(r"(?<=\d)-(?=[a-z])", " ", _ISO.sub(_iso, text))  # “a 3-month plan”
    text = _SIGN_FIRST.sub(r"\2 \1", text)
    text = _MONTH_FIRST.sub(lambda found: f"{found[2]} {found[1]}{f' {found[3]}' if found[3] else ''}", text)
    while (plain := _SEVERAL_DAYS.sub(lambda f: f"{f[1]} {f[3]}{f' {f[4]}' if f[4] else ''}{f[2]} ", text, 1)) != text:
        text = plain
    return _ONE_DATE.sub(lambda f: f"{int(f[1])} {_month(f[2])}{f' {f[3]}' if f[3] else ''}", text)


def _iso(found: re.Match[str]) -> str:
    try:
        day = date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return found[0]
    return f"{day.day} {_MONTHS[day.month - 1].capitalize()} {day.year}"


def _month(word: str) -> str:
    return next(month for month in _MONTHS if month.startswith(word[:3].lower())).capitalize()


def _number(word: str) -> str:
    """Write a number without thousands separators and closing zeros; any other word stays as it is."""
    parts = word.split("-")
    if set(parts) <= _NUMBERS.keys():
        return str(sum(_NUMBERS[part] for part in parts))
    if found := _AMOUNT.fullmatch(word):
        sign, before, whole, fraction, after = found.groups()
        fraction = (fraction or "").rstrip("0").rstrip(".")
        return f"{sign.replace('−', '-').replace('–', '-')}{before}{whole.replace(',', '')}{fraction}{after}"
    return word
