"""Find the figures of a text: amounts of money, dates, account numbers, addresses and all other numbers.

A figure is compared as it is written, because the prompt asks a model to copy it: `£1,204.50` is not `£1204.5`. Only
single number words and digits are the same figure (`two`, `2`). No digit is ignored.
"""

import calendar
import re
import unicodedata

_UP_TO_19 = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBERS = {word: str(number) for number, word in enumerate(_UP_TO_19.split())} | {
    word: str(10 * number) for number, word in enumerate(_TENS.split(), start=2)
}
_MONTHS = [name.lower() for name in calendar.month_name[1:]]
_WORDS = frozenset(
    (
        f"{' '.join(_NUMBERS)} hundred thousand million billion dozen percent "
        "pound pounds quid grand pence penny euro euros cent cents dollar dollars buck bucks yen franc francs rupee "
        "rupees rouble roubles dirham dirhams lira liras peso pesos krona kronor krone kroner yuan zloty rand "
        "monday tuesday wednesday thursday friday saturday sunday yesterday tomorrow"
    ).split()
) - {"one"}
"""Words that are figures."""
_PARTS = frozenset(
    f"one minus negative p k m mn bn sept {' '.join(_MONTHS)} {' '.join(m[:3] for m in _MONTHS)}".split()
)
"""Words that are a figure only together with another one: `one` in “one million”, `May` in “5 May”."""
_SYMBOL = "[%$¢£¤¥\u20a0-\u20cf]"  # the last is Unicode's block of currency symbols
_CODE = "[A-Z]{3}"
_MONTH_NAME = "|".join(month.capitalize() for month in _MONTHS if month != "may")
_ADDRESS = r"://|\bwww\.|@"
_CERTAIN = re.compile(rf"\d|{_SYMBOL}|{_ADDRESS}|^(?:{_MONTH_NAME})$")
_OPENING, _CLOSING, _BREAK = "([{<\"'“‘«:;,!?", ")]}>\"'”’»:;,!?.", ".,;!?"

MAY_BE_PART = re.compile(rf"\d|{_SYMBOL}|[@\[…]|\.\.|://|\bwww\b|\b{_CODE}\b|\b(?i:{'|'.join(_WORDS | _PARTS)})\b")
"""Matches where a figure may start or continue in a text that is not yet complete."""


def find_figures(text: str) -> frozenset[str]:
    """Return all figures of a text. Parts that follow each other are one figure: “10 million pounds”."""
    text = unicodedata.normalize("NFKC", text).replace("...", " ")
    visible = "".join(c for c in text if c not in "*_`" and unicodedata.category(c) != "Cf")
    runs: list[list[tuple[str, bool]]] = [[]]  # words that follow each other, and whether each is a figure by itself
    for token in visible.split():
        left = token.lstrip(_OPENING)
        word = left.rstrip(_CLOSING)
        lower = word.casefold()
        is_certain = bool(_CERTAIN.search(word)) or set(lower.split("-")) <= _WORDS
        if not (is_certain or lower in _PARTS or re.fullmatch(_CODE, word)):
            runs.append([])
            continue
        before = runs[-1][-1][0] if runs[-1] else ""
        if re.search(r"\d", before) and re.search(r"\d", lower) and not re.match(r"\d{3}\b", lower):
            runs.append([])  # two numbers that follow each other, and not the thousands of one number
        runs[-1].append((_NUMBERS.get(lower, lower), is_certain))
        if set(left[len(word) :]) & set(_BREAK):
            runs.append([])
    return frozenset(" ".join(word for word, _ in run) for run in runs if any(certain for _, certain in run))
