r"""Syntax of a claim: a number on a page that names the record it comes from.

Markdown  <!-- claim: chat.sequential.p95_ms dataset=banking77 profile=quick -->12.3 ms<!-- /claim -->
HTML      <data class="claim" value="chat.sequential.p95_ms">12.3 ms</data>
LaTeX     \claim[dataset=banking77]{chat.sequential.p95_ms}{12.3~ms}, with \providecommand{\claim}[3][]{#3}

The text is the value of the record. `ID#ci95` shows the 95 % interval and `ID#n` the number of samples. Conditions
`name=value` are optional, and not for HTML; the record must have them. LaTeX names its run after `%`, as in Markdown.
"""

import html
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

ID = r"(?P<id>[\w.@-]+)"
INSIDE = r"[^>]{0,400}"
"""Of a comment or a tag. It has a limit, so that thousands of unfinished ones are read in seconds."""
CLAIM = re.compile(
    rf"(?P<open><!--\s*claim:\s*{ID}(?:#(?P<part>\w+))?(?P<conditions>(?:\s+[^\s>]{INSIDE}?)?)\s*-->)"
    r"(?P<text>(?:(?!<!--\s*claim:).)*?)(?P<close><!--\s*/claim\s*-->)",
    re.DOTALL,
)
HTML_CLAIM = re.compile(
    rf"""(?P<open><data\b(?={INSIDE}\bclass=["']claim["'])"""
    rf"""{INSIDE}\bvalue=["']{ID}(?:#(?P<part>\w+))?["']{INSIDE}>)"""
    r"(?P<text>(?:(?!<data\b).)*?)(?P<close></data\s*>)",
    re.DOTALL,
)
LATEX_CLAIM = re.compile(
    r"(?P<open>\\claim\s*(?:\[(?P<conditions>[^]=]+=[^]]*)\]\s*)?\{\s*(?P<id>(?:[\w.@-]|\\_)+)(?:\\?#(?P<part>\w+))?\s*\}\s*\{)"
    r"(?P<text>(?:\\.|[^{}\\]|\{(?:\\.|[^{}\\])*\})*)(?P<close>\})",
    re.DOTALL,
)
INCOMPLETE = re.compile(
    r"<!--\s*/?claim\b(?:(?!<!--).)*?-->|<data\b[^>]{0,400}\bclass=[\"']claim[\"'][^>]{0,400}>|\\claim\s*(?:\[[^]=]+=[^]]*\]\s*)?\{",
    re.DOTALL,
)
"""What begins or ends a claim; an error if it is outside of the claims above."""
RUN = re.compile(r"<!--\s*claims-run:\s*(?P<run>\S+)(?P<conditions>(?:\s+[^\s>][^>]{0,400}?)?)\s*-->")

TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "×": r"$\times$",
    "…": r"\dots{}",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
"""Special character → its LaTeX escape."""
UNESCAPED = {escaped: plain for plain, escaped in TEX.items()}
ESCAPES = re.compile("|".join(re.escape(escaped) for escaped in sorted(UNESCAPED, key=len, reverse=True)))


@dataclass(frozen=True)
class Token:
    """One claim found on a page."""

    id: str
    part: str
    """One of `format.PARTS`: empty for the value, `ci95` or `n`."""
    text: str
    """The number as the page shows it, unescaped."""
    line: int
    """Line number in the page, from 1."""
    conditions: str = ""
    """Unparsed conditions (`parse_conditions`); HTML claims have none."""


def markdown(id: str, text: str, part: str = "") -> str:
    return f"<!-- claim: {id}{part and '#' + part} -->{text}<!-- /claim -->"


def hypertext(id: str, text: str, part: str = "") -> str:
    return f'<data class="claim" value="{id}{part and "#" + part}">{html.escape(text, quote=False)}</data>'


def latex(id: str, text: str, part: str = "") -> str:
    return rf"\claim{{{tex(id + (part and '#' + part))}}}{{{tex(text)}}}"


def tex(text: str) -> str:
    return "".join(TEX.get(character, character) for character in text)


def untex(text: str) -> str:
    """Returns the plain text that `tex` escaped."""
    return ESCAPES.sub(lambda match: UNESCAPED[match[0]], text)


SYNTAXES: tuple[tuple[re.Pattern[str], Callable[[str], str], Callable[[str], str]], ...] = (
    (CLAIM, str, str),
    (HTML_CLAIM, html.unescape, partial(html.escape, quote=False)),
    (LATEX_CLAIM, untex, tex),
)
"""Each syntax: its claims, and how to unescape and escape the text of one."""


def find_tokens(text: str) -> Iterator[Token]:
    """Yields every claim of a page."""
    for pattern, unescape, _ in SYNTAXES:
        for match in pattern.finditer(text):
            yield Token(
                id=match["id"].replace("\\", ""),
                part=match["part"] or "",
                text=unescape(match["text"]),
                line=text.count("\n", 0, match.start()) + 1,
                conditions=match.groupdict().get("conditions") or "",
            )


def parse_conditions(words: str) -> dict[str, str]:
    """Parses conditions such as `dataset=banking77 profile=quick`. Raises `ValueError` for a word of another form."""
    conditions = {}
    for word in shlex.split(words):
        key, _, value = word.partition("=")
        if not (key and value):
            raise ValueError(f"{word!r} is not a condition of the form name=value")
        conditions[key] = value
    return conditions
