"""Write the per-request table as CSV, gzip-compressed CSV or Parquet, selected by the file name's suffix.

A file is replaced only when the new one is complete.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from bankllm.errors import NotMeasured, UsageError
from bankllm.evidence.records import write_rows
from bankllm.loadtest.load import COLUMNS, RequestRow
from bankllm.util.atomic_files import atomic_writer

ENDINGS = (".csv", ".csv.gz", ".parquet")
_TEXT = ("driver", "kind", "phase", "status", "error")
_INTEGERS = ("worker", "bytes")


def check_ending(path: Path) -> None:
    """Raise `UsageError` for a suffix that is not supported. Call it before the load whose rows are written."""
    if not path.name.endswith(ENDINGS):
        raise UsageError(f"{path.name}: expected a file name that ends in {', '.join(ENDINGS)}.")


def write_table(path: Path, rows: Sequence[RequestRow]) -> None:
    """Write rows with the columns of `COLUMNS`. Floats keep all digits; in Parquet, an empty value is null.

    Raises `UsageError` for a suffix that is not supported, `NotMeasured` for Parquet without pyarrow, and `RunError`
    if there are no rows or the file cannot be written.
    """
    check_ending(path)
    if not path.name.endswith(".parquet"):
        write_rows(path, rows)
        return
    with atomic_writer(path) as file:
        _write_parquet(file, rows)


def _write_parquet(file: IO[bytes], rows: Sequence[RequestRow]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise NotMeasured("pyarrow not found; install it (pip install pyarrow) or use a .csv.gz file.") from error
    types = {name: pyarrow.string() for name in _TEXT} | {name: pyarrow.int64() for name in _INTEGERS}
    columns = {
        name: pyarrow.array([_cell(each[name], name) for each in rows], types.get(name, pyarrow.float64()))
        for name in COLUMNS
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), file)


def _cell(value: object, name: str) -> object:
    if name in _TEXT:
        return str(value)
    return None if value == "" else value
