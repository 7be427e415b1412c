"""Report pages: every number equals its record, and missing measurements are listed with the reason."""

import json
import re
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.evidence.format import describe_how, format_interval, format_value
from bankllm.evidence.records import read_records
from bankllm.evidence.report.render import render
from bankllm.evidence.run import Run
from tests.support.sealed_run import BANKING77


@pytest.fixture
def filled(run: Run) -> Run:
    run.conditions |= BANKING77
    run.write_rows("predictions", [{"actual": "a", "predicted": "a"}] * 93 + [{"actual": "b", "predicted": "a"}] * 7)
    how = {"configuration": "LoRA r=8"}
    run.measure(
        "training.lora_r8.accuracy", "accuracy", "predictions", title="LoRA: accuracy", unit="share", conditions=how
    )
    run.write_rows("chat", ({"ms": i} for i in range(1, 201)))
    run.measure_percentiles("chat.sequential", "chat", title="Chat", column="ms")
    run.not_measured("load.ab.p95_ms", title="ab, p95", unit="ms", why="ab is not installed <apt>")
    return run


def visible_text(page: Path) -> str:
    """The Markdown without comments, which are not displayed."""
    return re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"))


def test_markdown_shows_values_intervals_and_missing_measurements(filled: Run) -> None:
    with pytest.raises(RunError, match="contains no records"):
        render(filled.folder / "raw")
    render(filled.folder)
    text = visible_text(filled.folder / "RESULTS.md")
    assert "| LoRA r=8 | 93.0 % (86.3 – 96.6 %) |" in text
    assert "| Chat, p95 | **190.0 ms** | 183.0 – 198.0 ms | 200 | percentile of ms, q = 0.95 |" in text
    assert "| ab, p95 | *not measured* | | | [load.ab.p95_ms](records.jsonl#L5) | ab is not installed <apt> |" in text
    assert "| Chat, p99 ([chat.sequential.p99_ms](records.jsonl#L4)) | invalid: p99 needs" in text
    assert "**Not measured here.**" in text


def test_each_number_links_to_its_record_and_its_raw_rows(filled: Run) -> None:
    render(filled.folder)
    lines = (filled.folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    links = re.findall(r"\[([\w.]+)\]\(records\.jsonl#L(\d+)\)", visible_text(filled.folder / "RESULTS.md"))
    assert {id for id, _ in links} == {record.id for record in read_records(filled.folder)}
    for id, number in links:
        assert json.loads(lines[int(number) - 1])["id"] == id
    page = (filled.folder / "RESULTS.html").read_text(encoding="utf-8")
    assert '<a href="raw/01_chat.csv.gz">' in page
    assert '<a href="records.jsonl#L3">' in page


def test_html_is_escaped_and_needs_no_other_file(filled: Run) -> None:
    pytest.importorskip("matplotlib")
    from bankllm.lab import plots

    figure, (axis,) = plots.new_figure()
    plots.latency_distribution(axis, {"a": [1.0, 2.0, 30.0]}, "Latency")
    filled.save_plot("latency", figure)
    render(filled.folder)
    page = (filled.folder / "RESULTS.html").read_text(encoding="utf-8")
    assert "ab is not installed &lt;apt&gt;" in page
    assert 'src="data:image/png;base64,' in page
    assert re.findall(r'(?:src|href)="(?!data:|#|raw/|records\.jsonl)[^"]*', page) == []


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.93456, "share", "93.5 %"),
        (1234.5, "ms", "1,234 ms"),
        (12.345, "ms", "12.3 ms"),
        (0.345, "ms", "0.34 ms"),
        (3 * 2**20, "bytes", "3.0 MiB"),
        (2048, "bytes", "2.0 KiB"),
        (76808, "parameters", "76,808 parameters"),
    ],
)
def test_values_are_formatted_with_units(run: Run, value: float, unit: str, shown: str) -> None:
    run.write_rows("one", [{"x": value}])
    record = run.measure("a.b", "single", "one", title="t", unit=unit, column="x")
    assert format_value(record) == shown
    assert format_interval(record) == "none: measured once"
    assert describe_how(record) == "value of x"
