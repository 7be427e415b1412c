"""The per-request table has the same content in each file format, and an incomplete file never appears."""

import csv
import gzip
from pathlib import Path

import pyarrow.parquet
import pytest

from bankllm.errors import RunError, UsageError
from bankllm.loadtest.load import COLUMNS, row
from bankllm.loadtest.table import write_table

ROWS = [
    row("open-loop", 0, "chat", "steady", 0.1, 0.1 + 0.2, 0.4, 0.5, 400.0, 1 / 3, 200, 14, ""),
    row("ab", 0, "chat", "", "", 3, "", 3.004, 4, 4, "2xx", "", ""),
]


def test_csv_keeps_all_digits_and_gz_has_the_same_text(tmp_path: Path) -> None:
    write_table(tmp_path / "rows.csv", ROWS)
    write_table(tmp_path / "rows.csv.gz", ROWS)
    with (tmp_path / "rows.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == list(COLUMNS)
    assert float(first["sent_s"]) == 0.1 + 0.2
    assert float(first["service_ms"]) == 1 / 3
    assert (second["scheduled_s"], second["status"], second["bytes"]) == ("", "2xx", "")
    packed = (tmp_path / "rows.csv.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "rows.csv").read_bytes()
    write_table(tmp_path / "again.csv.gz", ROWS)
    assert (tmp_path / "again.csv.gz").read_bytes() == packed


def test_an_empty_value_is_null_in_parquet(tmp_path: Path) -> None:
    write_table(tmp_path / "rows.parquet", ROWS)
    first, second = pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert first == ROWS[0] | {"status": "200"}
    assert second == ROWS[1] | {"scheduled_s": None, "first_byte_s": None, "bytes": None}


def test_another_suffix_is_rejected_and_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rows\.xlsx: expected a file name that ends in \.csv, \.csv\.gz, \.parquet"):
        write_table(tmp_path / "rows.xlsx", ROWS)
    write_table(tmp_path / "rows.csv", ROWS)
    with pytest.raises(ValueError, match="not in fieldnames"):
        write_table(tmp_path / "rows.csv", [*ROWS, ROWS[0] | {"colour": "blue"}])
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        write_table(tmp_path / "file" / "rows.csv", ROWS)
