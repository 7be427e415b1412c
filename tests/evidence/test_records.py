"""Records are written atomically and always computed from raw rows."""

import os
from pathlib import Path
from typing import Any

import pytest

from bankllm.errors import RunError, UsageError
from bankllm.evidence.records import read_records, write_rows
from bankllm.evidence.run import Run, open_run
from bankllm.util.atomic_files import write_text


def test_measure_computes_from_the_raw_file(run: Run) -> None:
    run.write_rows("chat", ({"ms": i, "status": 200 if i % 10 else 500} for i in range(1, 201)))
    p95 = run.measure("chat.p95_ms", "percentile", "chat", title="p95", unit="ms", column="ms", q=0.95)
    share: dict[str, Any] = {"title": "ok", "unit": "share", "column": "status", "equals": "500"}
    errors = run.measure("chat.ok", "proportion", "chat", where={"status": "500"}, **share)
    assert (p95.value, p95.n, p95.status) == (190.0, 200, "measured")
    assert (errors.value, errors.n) == (1.0, 20)
    assert p95.conditions["profile"] == "smoke"
    assert [r.id for r in read_records(run.folder)] == ["chat.p95_ms", "chat.ok"]


def test_an_invalid_number_keeps_its_reasons(run: Run) -> None:
    run.write_rows("chat", [{"ms": 1}] * 20)
    options: dict[str, Any] = {"title": "p99", "unit": "ms", "column": "ms", "q": 0.99}
    record = run.measure("p99", "percentile", "chat", **options, invalid_because="the generator was busy")
    assert record.status == "invalid"
    assert str(record.invalid_because).startswith("the generator was busy; p99 needs")


def test_errors_name_unknown_rows_statistics_and_columns(run: Run) -> None:
    with pytest.raises(RunError, match="no rows named 'nothing' were written"):
        run.measure("x", "count", "nothing", title="x", unit="ms")
    run.write_rows("chat", [{"ms": 1}])
    with pytest.raises(RunError, match=r"Unknown statistic 'median'\. Expected one of: accuracy"):
        run.measure("x", "median", "chat", title="x", unit="ms")
    with pytest.raises(RunError, match=r"mean\(.*'seconds'.*cannot be applied: KeyError"):
        run.measure("x", "mean", "chat", title="x", unit="s", column="seconds")
    with pytest.raises(RunError, match="has no column driver"):
        run.measure("x", "count", "chat", title="x", unit="s", where={"driver": "ab"})
    with pytest.raises(RunError, match="No rows to write"):
        run.write_rows("nothing", [])
    assert read_records(run.folder) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_raises_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    write_rows(path, [{"ms": 1}])
    before = path.read_bytes()
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (os.open("/dev/full", os.O_WRONLY), str(tmp_path / "none")))
    with pytest.raises(RunError, match=r"No space left on device.*free space"):
        write_rows(path, ({"ms": i} for i in range(100_000)))
    with pytest.raises(RunError, match=r"No space left on device"):
        write_text(path, "x" * 100_000)
    assert path.read_bytes() == before


def test_an_unknown_profile_and_an_unusable_folder_raise(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Unknown profile 'fast'\. Expected one of: smoke, quick, full"):
        open_run("01_local_validation", "fast", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        open_run("01_local_validation", "smoke", tmp_path / "file" / "run")
