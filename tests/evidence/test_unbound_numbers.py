"""Numbers that look measured and placeholders are found; claims, code and conventions are not."""

import json
import re
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.evidence.unbound_numbers import find_unbound_numbers, scan, unbound_numbers_in_results


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("p95 of 487 ms", "487 ms"),
        ("it took 1.5s", "1.5s"),
        ("~92% accuracy", "~92%"),
        ("1,243 requests/s", "1,243 requests/s"),
        ("1243 req/s", "1243 req/s"),
        ("9.2 MiB resident", "9.2 MiB"),
        ("3.2× faster", "3.2×"),
        ("1–2 s a chat", "1–2 s"),
        (r"92\% in LaTeX", "92 %"),
        ("| a | 12.3 ms |", "12.3 ms"),
        *((text, text) for text in ("12,3 ms", "1 234 ms", "1.2k requests/s", "1e3 ms", ".5 s", "12 ms/request")),
        *((text, text) for text in ("12 ± 3 ms", "12—15 ms", "12-ms", "3-fold", "2 percentage points", "93.5％")),
        *((text, text) for text in ("12 μs", "12 msec", "12 mins", "12 tokens per second", "12 RPS", "9 GB/s")),
        *(
            (text, "12 ms")
            for text in ("12\u00a0ms", "12\u202fms", "12&nbsp;ms", "**12** ms", "_12 ms_", "<b>12</b> ms")
        ),
        *((text, "12 ms") for text in (r"12\,ms", "12~ms", "$12$~ms", r"\SI{12}{\milli\second}", "p95=12 ms")),
        (r"$93.5\,\%$", "93.5 %"),
        ("3.2 times faster", "3.2 times"),
        *(
            (text, text)
            for text in ("41 frames-per-second", "90 FPS", "300+ requests per second", "45M requests daily")
        ),
        *((text, text) for text in ("4,000 read requests per second", "9M requests/day", "$5K")),
        ("10K users and a 13B model", "10K"),
        ("An F1-value of 0.71", "0.71"),
        ("accuracy of 0.935", "0.935"),
        *((text, text) for text in ("halves the latency", "twice the throughput", "latency drops by half", "9 in 10")),
        *((text, text) for text in ("sub-millisecond", "under a millisecond", "five nines", "1 out of 1,000")),
        ("macro-F1: .91", ".91"),
        ("| p95 (ms) | 12.3 |", "12.3"),
        ("| model | p95, ms |\n|---|---|\n| a | 12.3 |", "12.3"),
    ],
)
def test_a_number_is_found(text: str, number: str) -> None:
    assert [found.text for found in find_unbound_numbers(text)] == [number]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- claim: a.b -->12.3 ms<!-- /claim -->",
        '<data class="claim" value="a.b">12.3 ms</data>',
        r"\claim{a.b}{12.3 ms}",
        "a 95 % interval, 99 % confidence, the 95 % CI",
        "`sleep 5 s` and\n```\n100 ms\n```",
        "version 3.11, 77 intents, 15,000 messages, item 2.",
        "15,000 × 384 floats, 5 x 5",
        "https://example.org/10%20ms",
        "<!--claim:a.b-->12.3 ms<!--/claim-->",
        "<data value='a.b' class='claim'>12.3 ms</data>",
        r"\claim {a\_b}{\textbf{12.3~ms}}",
        "~~~\n100 ms\n~~~\n<pre>1 s</pre>",
        "\\begin{verbatim}1 s\\end{verbatim} \\vspace{12 ms}\n% 12 ms",
        "the 1990s, retried 3 times, accuracy in version 0.9, 2026-11-29, port 8000",
        "<!-- not measured here: the vendor --> expected: 100 ms",
        "<!-- not measured here: the vendor -->\n\n| expected |\n| 100 ms |\n| 1 s |",
    ],
)
def test_claims_code_and_conventions_are_not_found(text: str) -> None:
    assert list(find_unbound_numbers(text)) == []


def test_the_mark_applies_to_one_block_only() -> None:
    for before in ("\n\n", " "):
        text = f"<!-- not measured here: the vendor -->{before}100 ms\n\n200 ms"
        assert [number.text for number in find_unbound_numbers(text)] == ["200 ms"]


def test_results_sections_end_at_the_next_heading_of_their_level() -> None:
    text = (
        "# Tool\n1 ms\n## Results\n2 ms\n### On a GPU\n3 ms\n## Setup\n4 ms\n<!-- results -->\n5 ms\n"
        "<!-- /results -->\n6 ms\n## Performance\n```\n# not a heading\n```\n7 ms\n"
    )
    assert [number.text for number in unbound_numbers_in_results(text)] == ["2 ms", "3 ms", "5 ms", "7 ms"]


@pytest.mark.parametrize(
    "heading",
    [
        *("## Results ##", "  ##\t4. Results", "Results\n=======", "Results\n---", "## 📊 **RESULTS**", "**Results:**"),
        *("<h2 id='r'>Results</h2>", r"\section*{Experimental results}", "## Benchmarks", "## Evaluation"),
    ],
)
def test_results_headings_of_every_style_are_found(heading: str) -> None:
    text = f"# Tool\n\n1 ms\n\n{heading}\n\n2 ms\n\nTool\n====\n\n3 ms\n"
    assert [number.text for number in unbound_numbers_in_results(text)] == ["2 ms"]


def marked(text: str) -> tuple[str, list[range]]:
    """Returns the text without its marks ⟦ and ⟧, and the characters of each figure that they enclose."""
    figures, plain = [], ""
    for part in re.split(r"(⟦[^⟧]*⟧)", text):
        shown = part.strip("⟦⟧")
        if part.startswith("⟦"):
            figures.append(range(len(plain), len(plain) + len(shown)))
        plain += shown
    return plain, figures


def examples(name: str) -> list[str]:
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def test_at_least_95_percent_of_the_figures_that_people_write_are_found() -> None:
    figures, missed = 0, []
    for text, expected in map(marked, examples("figures_people_write.jsonl")):
        starts = [0, *(end + 1 for end, character in enumerate(text) if character == "\n")]
        found = [(starts[n.line - 1] + n.column, len(n.text)) for n in find_unbound_numbers(text)]
        hit = {position for start, length in found for position in range(start, start + length)}
        figures += len(expected)
        missed += [text[f.start : f.stop] for f in expected if not hit.intersection(f)]
    assert figures >= 150
    assert len(missed) <= 0.05 * figures, missed


def test_at_most_2_percent_of_the_paragraphs_without_a_figure_are_reported() -> None:
    paragraphs = examples("numbers_without_figures.jsonl")
    reported = [text for text in paragraphs if list(find_unbound_numbers(text))]
    assert len(paragraphs) >= 200
    assert len(reported) <= 0.02 * len(paragraphs), reported


CELLS = [
    {"cell_type": "markdown", "source": ["# Title\n", "p95 of 487 ms"]},
    {"cell_type": "code", "source": ["limit = '250 ms'  # TODO measure\n"], "outputs": []},
]
FOUND = ["cell 1:2: unbound number '487 ms'", "cell 2:1: placeholder 'TODO'"]
DOCUMENTS = {
    "bound.md": ("p95 <!-- claim: chat.sequential.p95_ms -->190.0 ms<!-- /claim -->\n", []),
    "resume.tex": ("\\item LoRA to 92\\% accuracy, [X] MB\n", ["1: unbound number '92 %'", "1: placeholder '[X]'"]),
    "notebook.ipynb": (json.dumps({"cells": CELLS}), FOUND),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_command_scans_a_document(tmp_path: Path, name: str, bankllm) -> None:
    file = tmp_path / name
    content, expected = DOCUMENTS[name]
    file.write_text(content)
    done = bankllm("claims", "--scan", file)  # needs no run
    assert done.stdout.splitlines() == [f"{file}:{line}" for line in expected]
    assert done.returncode == bool(expected)


@pytest.mark.parametrize(
    ("text", "placeholder"),
    [
        ("TODO: numbers", "TODO"),
        ("accuracy of [X]%", "[X]"),
        ("about ~N requests", "~N"),
        ("latency: N/A", "N/A"),
        ("p95 latency XXX ms", "XXX"),
        ("throughput of <number> requests/s", "<number>"),
        ("training time TBD.", "TBD"),
        ("hit rate XX%", "XX"),
        ("N.N% better", "N.N"),
        ("cut costs by ____", "____"),
        ("{{ accuracy }} reached", "{{ accuracy }}"),
        ("[insert figure here]", "[insert figure here]"),
        ("Lorem ipsum dolor", "Lorem ipsum"),
        ("???", "???"),
        *((text, None) for text in ("[X](page.md)", "`TODO`", "XL size, 5 x 5, N = 3", "$XXX", "a<b>c", "methodTODO")),
    ],
)
def test_a_placeholder_is_found_and_other_text_is_not(tmp_path: Path, text: str, placeholder: str | None) -> None:
    file = tmp_path / "page.txt"
    file.write_text(f"first\n{text}\n")
    assert scan(file) == ([f"{file}:2: placeholder {placeholder!r}"] if placeholder else [])


@pytest.mark.parametrize("content", ["[]", "{", '{"cells": [1]}', "[" * 100_000])
def test_an_invalid_notebook_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "broken.ipynb"
    file.write_text(content)
    with pytest.raises(RunError, match="is not a notebook"):
        scan(file)
