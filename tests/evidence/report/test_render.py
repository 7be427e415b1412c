"""Report pages: every number equals its record, and missing measurements are listed with the reason."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from bankllm.errors import RunError
from bankllm.evidence.claims import audit_claims
from bankllm.evidence.format import describe_how, format_interval, format_value
from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.records import read_records
from bankllm.evidence.report.render import render
from bankllm.evidence.report.summary import FOLDED_FROM
from bankllm.evidence.run import Run
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.evidence.verification.verify import verify
from bankllm.profiles import PROFILES, ProfileName
from tests.support.language_records import add_language_records
from tests.support.sealed_run import BANKING77, NOTEBOOK, TELLER77, recorded_run, write_notebook


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
    assert "| ab, p95 ([load.ab.p95_ms](records.jsonl#L5)) | not measured: ab is not installed <apt> |" in text
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
    assert re.findall(r'(?:src|href)="(?!data:|#|raw/|plots/|records\.jsonl)[^"]*', page) == []


@pytest.fixture(params=[("smoke", False), ("smoke", True), ("quick", False), ("quick", True)], ids=str)
def reported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, ProfileName, bool]:
    """A sealed run with its pages, its profile, and whether it has records of a language model."""
    profile, language = request.param
    folder = recorded_run(tmp_path / "run", profile=profile, data=TELLER77 if profile == "smoke" else BANKING77)
    run = Run(folder, "04_vector_search", PROFILES[profile])
    run.write_rows("many", [{"n": n} for n in range(FOLDED_FROM)])
    for n in range(FOLDED_FROM):
        where = {"where": {"n": str(n)}, "column": "n", "conditions": BANKING77}
        run.measure(f"vectors.growth.n{n}.rows", "single", "many", title=f"Rows {n}", unit="vectors", **where)
    if language:
        add_language_records(folder, profile)
    render(folder)
    write_notebook(Run(folder, NOTEBOOK, PROFILES[profile]))
    seal_run(folder, read_manifest(folder), complete=True)
    return folder, profile, language


def test_the_page_tells_the_story_first_and_folds_long_tables(reported: tuple[Path, ProfileName, bool]) -> None:
    folder, profile, language = reported
    page = BeautifulSoup((folder / "RESULTS.html").read_text(encoding="utf-8"), "html.parser")
    titles = [heading.text for heading in page.find_all("h2")]
    assert titles[:3] == ["What was asked", "What was measured", "What was missed, and what was not measured"]
    assert titles[3] == "Chat service, one request at a time"
    tiles = [tile.text for tile in page.select(".tiles li")]
    assert len(tiles) == (7 if language else 3)
    assert any("82.0 %of the messages" in tile for tile in tiles) == language
    assert all(re.search(r"n = \d", tile) for tile in tiles)
    assert (page.find(class_="notice") is not None) == (profile == "smoke")
    missed = page.find("h2", id="missed").find_next("ul").text
    assert (
        "chat with 100 users and the language model, p95: claimed under 500 ms, measured 950.0 ms" in missed
    ) == language
    assert ("language model, tokens per second" in missed) != language
    for table in page.find_all("table"):
        lines = table.find("tbody").find_all("tr")
        fold = table.find_parent("details")
        assert len(lines) < FOLDED_FROM or f"{len(lines)} lines" in fold.summary.text
    assert f"All measured records: {FOLDED_FROM} lines" in page.text
    tables = [heading.text for heading in page.find_all("h3")]
    assert ("Language models, before and after tuning, and rules" in tables) == language


def test_the_page_is_usable_with_a_keyboard_and_a_screen_reader(reported: tuple[Path, ProfileName, bool]) -> None:
    page = BeautifulSoup((reported[0] / "RESULTS.html").read_text(encoding="utf-8"), "html.parser")
    ids = [tag["id"] for tag in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.find_all("a") if link["href"].startswith("#")} <= set(ids)
    for table in page.find_all("table"):
        assert (table.parent["role"], table.parent["tabindex"]) == ("region", "0")
        assert table.parent["aria-label"]
        assert all(header.get("scope") in ("row", "col") for header in table.find_all("th"))
        assert all(line.find("th") for line in table.find("tbody").find_all("tr"))
    assert page.html["lang"] == "en"
    assert page.find("nav")["aria-label"]


def test_both_verifiers_accept_the_pages(reported: tuple[Path, ProfileName, bool]) -> None:
    folder, _, _ = reported
    verdict = verify(folder)
    assert verdict.holds, [finding for finding in verdict.findings if not finding.holds]
    command = [sys.executable, "-I", folder / "verify.pyz"]
    standalone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert standalone.stdout.splitlines()[-1] == verdict.summary()
    for name in ("RESULTS.md", "RESULTS.html", "RESUME.md"):
        assert audit_claims(folder / name, folder) == []


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
