r"""Reduce a page of Markdown, HTML or LaTeX to its prose; each line keeps its number, each figure its column.

Claims, code, comments, tags and addresses become spaces. Figures lose their markup: `\SI{12.5}{\milli\second}`,
`12.5&nbsp;ms` and `**12.5** ms` become `12.5 ms`, with more spaces.
"""

import html
import re
from collections.abc import Callable

from bankllm.evidence.claim_syntax import CLAIM, HTML_CLAIM, LATEX_CLAIM

CODE = re.compile(
    r"```.*?```|~~~.*?~~~|`[^`\n]*`|<(pre|code)\b.*?</\1>|\\begin\{(verbatim|lstlisting)\}.*?\\end\{\2\}", re.DOTALL
)
BADGES = r"https://img\.shields\.io/badge/"
NOT_PROSE = re.compile(
    rf"<!--.*?-->|\]\((?!{BADGES})[^)\n]*\)|(?!{BADGES})https?://\S+|<style.*?</style>|<script.*?</script>|"
    r"\\(?:label|ref|includegraphics|v?h?space)\*?(?:\[[^]]*\])?\{[^}]*\}",
    re.DOTALL,
)
BADGE = re.compile(rf"{BADGES}[^)\s\"']*")
"""The address of a badge, which contains its text."""
LATEX, LATEX_COMMENT = re.compile(r"\\(?:documentclass|begin|item|section)\b"), re.compile(r"(?<!\\)%.*")
QUANTITY = re.compile(
    r"\\(?:(?:SI|qty|num)(?:range)?)(?:\[[^]]*\])?\{(?P<number>[^}]*)\}(?:\{(?P<end>[^}]*)\}(?=\{))?(?:\{(?P<unit>[^}]*)\})?"
)
"""One or two numbers and their unit in LaTeX's package siunitx."""
PREFIXES = {"kibi": "Ki", "mebi": "Mi", "gibi": "Gi", "milli": "m", "micro": "µ", "kilo": "k", "mega": "M", "giga": "G"}
SYMBOLS = PREFIXES | {"second": "s", "percent": "%", "byte": "B", "times": "×", "pm": "±", "approx": "≈", "sim": "≈"}
COMMAND = re.compile(rf"\\({'|'.join(SYMBOLS)})(?![a-z])")
MATH = re.compile(r"(?<!\\)\$(?=\S)([^$\n]*[^\s$\\])\$(?!\d)")
"""A formula, by Pandoc's rule, which leaves prices as they are."""
FRACTION = re.compile(r"\\[td]?frac\{(\d+)\}\{(\d+)\}")
TAG = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)
ALTERNATIVE_TEXT = re.compile(r"""\b(?:alt|title)=(["'])(?P<text>.*?)\1""")
ENTITY = re.compile(r"&#?\w+;")
SPACES = re.compile(r"\\[,;:! ]|(?<=[\d$])~|(?<=\d)_\{(?=\\pm)|\*+|(?<!\w)_|_(?!\w)")
"""Spaces and emphasis between or around a number and its unit."""
GROUPS = re.compile(r"(?<=\d)\{,\}(\d+)")


def blank(text: str, *patterns: re.Pattern[str]) -> str:
    """Replaces all matches by spaces. Line and column numbers do not change."""
    for pattern in patterns:
        text = pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    return text


def prose_of(text: str) -> str:
    """Replaces claims, code, comments and addresses by spaces."""
    comments = (LATEX_COMMENT,) if LATEX.search(text) else ()
    return blank(text, CLAIM, HTML_CLAIM, LATEX_CLAIM, CODE, NOT_PROSE, *comments)


def without_markup(prose: str) -> str:
    """Replaces the markup of LaTeX, HTML, Markdown and badges by a number, spaces and a unit, in the same columns."""
    for pattern, shown in MARKUP:

        def padded(match: re.Match[str], shown: Callable[[re.Match[str]], str] = shown) -> str:
            return shown(match).ljust(len(match[0]))

        prose = pattern.sub(padded, prose)
    return prose.replace("\\%", " %").replace("\\$", " $")


def _visible(tag: re.Match[str]) -> str:
    shown = ALTERNATIVE_TEXT.search(tag[0])
    start, end = shown.span("text") if shown else (0, 0)
    return "".join(c if start <= i < end or c == "\n" else " " for i, c in enumerate(tag[0]))


def _quantity(match: re.Match[str]) -> str:
    unit = COMMAND.sub(lambda word: SYMBOLS[word[1]], match["unit"] or "").replace("\\", "")
    number = f"{match['number']}–{match['end']}" if match["end"] else match["number"]
    return " " * (match.start("number") - match.start()) + f"{number} {unit}"


MARKUP: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (BADGE, lambda badge: re.sub(r"[-_/]", " ", badge[0]).replace("%25", "%  ")),
    (TAG, _visible),
    (ENTITY, lambda entity: html.unescape(entity[0]).replace("\n", " ")),
    (SPACES, lambda _: ""),
    (MATH, lambda math: f" {math[1]}"),
    (FRACTION, lambda fraction: f"{fraction[1]}/{fraction[2]}"),
    (QUANTITY, _quantity),
    (COMMAND, lambda command: SYMBOLS[command[1]]),
    (GROUPS, lambda group: f",{group[1]}"),
)
"""Markup, in the order of its removal, and what it shows; no longer than the markup."""
