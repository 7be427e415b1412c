r"""The marks that bind a number on a page to its record. Standard library alone.

Markdown  <!-- claim: chat.sequential.p95_ms dataset=banking77 profile=quick -->12.3 ms<!-- /claim -->
HTML      <data class="claim" value="chat.sequential.p95_ms">12.3 ms</data>
LaTeX     \claim{chat.sequential.p95_ms}{12.3~ms}, with \providecommand{\claim}[2]{#2}

An id may be followed by `#ci95` or `#n`. In Markdown conditions may follow that the record must fulfil.
"""

import html
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

ID = r"[\w.@-]+"
CLAIM = re.compile(
    rf"(?P<open><!-- claim: (?P<id>{ID})(?:#(?P<part>\w+))?(?P<conditions>(?: [^ >][^>]*?)?) -->)"
    r"(?P<text>.*?)(?P<close><!-- /claim -->)",
    re.DOTALL,
)
HTML_CLAIM = re.compile(rf'<data class="claim" value="(?P<id>{ID})(?:#(?P<part>\w+))?">(?P<text>.*?)</data>', re.DOTALL)
LATEX_CLAIM = re.compile(
    rf"\\claim\{{(?P<id>{ID})(?:\\?#(?P<part>\w+))?\}}\{{(?P<text>(?:\\.|[^{{}}\\]|\{{\}})*)\}}", re.DOTALL
)
RUN = re.compile(r"<!-- claims-run: (?P<run>\S+)(?P<conditions>(?: [^>]*?)?) -->")

TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "×": r"$\times$",
    "…": r"\dots{}",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}
"""Characters that LaTeX reads as its own, and how they are written."""

PLAIN = {written: plain for plain, written in TEX.items()}
WRITTEN = re.compile("|".join(re.escape(written) for written in sorted(PLAIN, key=len, reverse=True)))


@dataclass(frozen=True)
class Token:
    """One bound number: which record, which part of it, under which conditions, what the page says, and where."""

    id: str
    part: str
    text: str
    line: int
    conditions: str = ""


def markdown(id: str, text: str, part: str = "") -> str:
    """The token as it stands in Markdown."""
    return f"<!-- claim: {_name(id, part)} -->{text}<!-- /claim -->"


def hypertext(id: str, text: str, part: str = "") -> str:
    """The token as it stands in HTML, escaped."""
    return f'<data class="claim" value="{_name(id, part)}">{html.escape(text, quote=False)}</data>'


def latex(id: str, text: str, part: str = "") -> str:
    """The token as it stands in LaTeX, escaped."""
    return f"\\claim{{{id}{chr(92)}#{part}}}{{{tex(text)}}}" if part else f"\\claim{{{id}}}{{{tex(text)}}}"


def tex(text: str) -> str:
    """Plain text, escaped for LaTeX."""
    return "".join(TEX.get(character, character) for character in text)


def find_tokens(text: str) -> Iterator[Token]:
    """Every bound number of a page, Markdown, HTML and LaTeX alike; `text` is unescaped."""
    for pattern, plain in ((CLAIM, str), (HTML_CLAIM, html.unescape), (LATEX_CLAIM, _untex)):
        for match in pattern.finditer(text):
            yield Token(
                id=match["id"],
                part=match["part"] or "",
                text=plain(match["text"]),
                line=text.count("\n", 0, match.start()) + 1,
                conditions=match.groupdict().get("conditions") or "",
            )


def parse_conditions(words: str) -> dict[str, str]:
    """`dataset=banking77 profile=quick`; a value with spaces stands in quotes. Raises `ValueError` for other words."""
    found = {}
    for word in shlex.split(words):
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise ValueError(f"{word!r} is not a condition of the form name=value")
        found[key] = value
    return found


def _name(id: str, part: str) -> str:
    return f"{id}#{part}" if part else id


def _untex(text: str) -> str:
    return WRITTEN.sub(lambda match: PLAIN[match[0]], text)
