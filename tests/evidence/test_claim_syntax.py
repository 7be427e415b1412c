"""Claims: written and parsed in Markdown, HTML and LaTeX."""

import time

import pytest

from bankllm.evidence import claim_syntax
from bankllm.evidence.claim_syntax import INCOMPLETE, Token, find_tokens, parse_conditions, tex

TEXTS = ["12.4 ms", "86.3 – 96.6 %", "3,080", "none: a < b & c > d", "p_1 #2 $3 {x} ~ ^ ≥ 4 × 5…"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("write", [claim_syntax.markdown, claim_syntax.hypertext, claim_syntax.latex])
@pytest.mark.parametrize("part", ["", "ci95", "n"])
def test_a_written_claim_is_found_again(write, text: str, part: str) -> None:
    page = f"first line\nthe value {write('chat.c100.p95_ms', text, part)} of it"
    assert {*find_tokens(page)} == {Token("chat.c100.p95_ms", part, text, 2)}


def test_conditions_are_parsed() -> None:
    (token,) = find_tokens('<!-- claim: a.b dataset="teller77[8 intents]" profile=quick -->1<!-- /claim -->')
    assert parse_conditions(token.conditions) == {"dataset": "teller77[8 intents]", "profile": "quick"}


@pytest.mark.parametrize("words", ["quick", "profile=", "=quick"])
def test_a_condition_without_name_or_value_raises(words: str) -> None:
    with pytest.raises(ValueError, match="is not a condition of the form name=value"):
        parse_conditions(words)


def test_every_special_character_of_latex_is_escaped() -> None:
    escaped = tex("50 % & $5 #1 a_b {c} ~ ^ \\")
    assert escaped == (r"50 \% \& \$5 \#1 a\_b \{c\} \textasciitilde{} \textasciicircum{} \textbackslash{}")


@pytest.mark.parametrize(
    "part", ["<!-- claim: a ", "<!--claim", "<data ", "<data class='claim' value='a'>", "\\claim{a}{"]
)
def test_an_unfinished_claim_thousands_of_times_is_read_in_seconds(part: str) -> None:
    text = part * 20_000
    began = time.monotonic()
    assert list(find_tokens(text)) == []
    list(INCOMPLETE.finditer(text))
    assert time.monotonic() - began < 20
