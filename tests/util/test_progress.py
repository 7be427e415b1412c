"""What a status line says about a run of notebooks, on a terminal and in a log."""

import io
from collections.abc import Iterator

import pytest

from bankllm.util.progress import RunProgress, StatusLine
from tests.support.server_client import until


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_it_names_notebook_cell_step_and_minutes_left(clock: Clock) -> None:
    progress = RunProgress({"01 First": 60, "02 Second": 240}, clock)
    assert progress.text() == ""
    progress.start_notebook("01 First", cells=8)
    progress.start_cell(3, "The load")
    clock.now = 5
    assert progress.text() == "01 First, cell 3 of 8 (5 s), about 5 min left: The load"
    progress.write("ab: 200 requests\n")
    progress.write("\n")
    assert progress.text().endswith("left: ab: 200 requests")
    progress.start_cell(4, "The load")
    assert progress.text().endswith("cell 4 of 8 (0 s), about 5 min left: The load")
    progress.end_notebook()
    assert progress.text() == ""


def test_the_minutes_left_follow_a_slow_machine_and_no_fast_one(clock: Clock) -> None:
    progress = RunProgress({"01": 60, "02": 60, "03": 120}, clock)
    progress.start_notebook("01", cells=1)
    assert progress.left_s() == 240
    clock.now = 120  # twice what was expected, and still running
    assert "more than 3 min left" in progress.text()
    progress.end_notebook()
    progress.start_notebook("02", cells=1)
    assert progress.left_s() == 2 * 180
    clock.now += 30
    progress.end_notebook()  # faster than expected
    progress.start_notebook("03", cells=1)
    assert progress.left_s() == 120 * 150 / 120
    clock.now += 110
    assert "less than 1 min left" in progress.text()
    clock.now += 60
    assert "longer than expected" in progress.text()
    fast = RunProgress({"01": 60, "02": 170}, clock)
    fast.start_notebook("01", cells=1)
    fast.end_notebook()
    fast.start_notebook("02", cells=1)
    assert fast.left_s() == 170


def test_without_an_expectation_no_minutes_are_promised(clock: Clock) -> None:
    progress = RunProgress({"07 Mine": 0}, clock)
    progress.start_notebook("07 Mine", cells=2)
    progress.start_cell(1, "")
    assert progress.text() == "07 Mine, cell 1 of 2 (0 s)"


def test_a_terminal_has_one_line_that_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    stream, texts = Terminal(), iter(["first", "a text that is too long", *["last"] * 1000])
    with StatusLine(stream, every_s=0.001) as status:
        status.show(lambda: next(texts))
        until(lambda: "last" in stream.getvalue())
        status.line("stays")
    clear = "\r" + " " * 11 + "\r"
    written = stream.getvalue()
    assert written.startswith(f"{clear}first{clear}a text that{clear}last")
    assert f"{clear}stays\n" in written
    assert written.endswith(clear)


def test_a_log_gets_plain_lines_and_none_between_notebooks() -> None:
    def texts() -> Iterator[str]:
        yield from ("", "one", "", "two")
        while True:
            yield ""

    stream, given = io.StringIO(), texts()
    with StatusLine(stream, every_s=0.001) as status:
        status.show(lambda: next(given))
        until(lambda: "two" in stream.getvalue())
        status.line("done")
    assert stream.getvalue() == "one\ntwo\ndone\n"
