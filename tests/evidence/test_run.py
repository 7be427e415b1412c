"""A run folder: records are appended safely, and a plot is saved once and small."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from bankllm.errors import RunError
from bankllm.evidence.records import read_records
from bankllm.evidence.run import Run, open_run
from bankllm.lab import plots


def test_a_record_is_appended_and_one_with_the_same_id_replaced(run: Run) -> None:
    for id in ("a", "b"):
        run.not_measured(id, title=id, unit="ms", why="-")
    path = run.folder / "records.jsonl"
    before, place = path.read_bytes(), path.stat().st_ino
    run.not_measured("c", title="c", unit="ms", why="-")
    assert path.read_bytes().startswith(before)
    assert path.stat().st_ino == place
    Run(run.folder, run.notebook, run.profile).not_measured("a", title="a", unit="ms", why="again")
    assert [(record.id, record.invalid_because) for record in read_records(run.folder)] == [
        *(("b", "-"), ("c", "-"), ("a", "again"))
    ]


@pytest.mark.parametrize("lines", [0, 1])
def test_a_record_that_a_kill_cut_short_is_removed_at_the_next_opening(tmp_path: Path, lines: int) -> None:
    first = open_run("01_local_validation", "smoke", tmp_path)
    for number in range(lines + 1):
        first.not_measured(f"chat.{number}", title="a", unit="ms", why="é")
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(RunError, match="not a measurement record"):
        read_records(tmp_path)
    again = open_run("02_load_testing", "smoke", tmp_path)
    again.not_measured("load.b", title="b", unit="ms", why="-")
    assert [record.id for record in read_records(tmp_path)] == [*["chat.0"][:lines], "load.b"]
    open_run("01_local_validation", "smoke", tmp_path)  # deletes the old records of this notebook
    assert [record.id for record in read_records(tmp_path)] == ["load.b"]


def test_a_plot_is_shown_with_the_bytes_of_its_file_in_few_colours(run: Run) -> None:
    figure, (axis,) = plots.new_figure()
    plots.latency_distribution(axis, {"a": [1.0, 2.0, 30.0]}, "Latency")
    full = BytesIO()
    figure.savefig(full, format="png", dpi=100, bbox_inches="tight")
    shown = run.save_plot("latency", figure)
    saved = (run.folder / "plots/01_latency.png").read_bytes()
    assert shown.data == saved
    assert len(saved) < 0.7 * len(full.getvalue())
    with Image.open(BytesIO(saved)) as image:
        assert (image.mode, image.size) == ("P", Image.open(full).size)
