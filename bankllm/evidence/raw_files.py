"""Read the raw files of a run, untrusted CSV (plain or gzip) in bounded memory, and compute statistics of them."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from bankllm.errors import RunError, UsageError, explained
from bankllm.evidence.documents import Raw
from bankllm.evidence.statistics.statistic import STATISTICS, Estimate, Rows
from bankllm.util.file_hash import sha256_file

MAX_FILE_BYTES = 256 * 2**20
"""Maximum size of a raw file. Compressed files are checked again after decompression, in characters."""
MAX_CELLS, MAX_ROWS = 2_000_000, 750_000
"""Maximum numbers of cells and of rows of a file; they need about 250 MB."""
MAX_LINE_CHARACTERS = 2**17


def inside(folder: Path, name: str) -> Path:
    """Returns the path of a file in a run folder; the file need not exist.

    Raises `RunError` if the name leads outside the folder, or if the file or one of its folders is a symbolic link.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
        raise RunError(f"{name} is outside the run folder. Expected a path relative to the run folder, without `..`.")
    if any((folder / Path(*parts[:depth])).is_symlink() for depth in range(1, len(parts) + 1)):
        raise RunError(f"{name} is a symbolic link. A run folder must hold regular files, so that it can be copied.")
    return folder / name


def read_table(path: Path, name: str) -> Rows:
    """Reads the rows of a plain or gzip (`.gz`) CSV file; error messages call it `name`.

    Raises `RunError` with the line number if the file is not valid CSV, and if it exceeds a limit of this module.
    """
    if not path.is_file():  # to open a named pipe would wait for its other end
        raise RunError(f"{name} is missing, or no regular file.")
    fault, causes = f"{name} cannot be read as CSV text", (OSError, EOFError, zlib.error, UnicodeDecodeError)
    opened = gzip.open if path.suffix == ".gz" else open
    with explained(RunError, fault, "Expected UTF-8, plain or gzip.", causes), opened(path, "rb") as file:
        text = TextIOWrapper(file, encoding="utf-8", newline="")
        return _collect(csv.reader(_lines(text, name), strict=True), name)


def _lines(text: TextIOWrapper, name: str) -> Iterator[str]:
    """Yields lines up to the size limits: a gzip file of 1 MB can decompress to 1 GB."""
    read = 0
    while line := text.readline(MAX_LINE_CHARACTERS):
        read += len(line)
        if len(line) == MAX_LINE_CHARACTERS:
            raise RunError(
                f"{name} has a line of more than {MAX_LINE_CHARACTERS:,} characters. Expected the CSV rows of a run."
            )
        if read > MAX_FILE_BYTES:
            raise RunError(
                f"{name} decompresses to more than the limit of {MAX_FILE_BYTES // 2**20} MiB. Split it into parts."
            )
        yield line


def _collect(reader: Any, name: str) -> Rows:
    rows: list[dict[str, str]] = []
    try:
        header = next(reader, None)
        if not header or len(set(header)) < len(header):
            raise RunError(f"{name} has no header with distinct column names. Expected a CSV header in line 1.")
        max_rows = min(MAX_ROWS, MAX_CELLS // len(header))
        for row in filter(None, reader):
            if len(row) != len(header):
                raise RunError(f"{name}, line {reader.line_num}: expected {len(header)} cells, found {len(row)}.")
            if len(rows) == max_rows:
                raise RunError(
                    f"{name} has more than {max_rows:,} rows, the limit for {len(header)} columns. Split it into parts."
                )
            rows.append(dict(zip(header, row, strict=True)))
    except csv.Error as error:
        raise RunError(f"{name}, line {reader.line_num}: {error}.") from error
    return rows


class RawFiles:
    """The raw files of a run. Each file is hashed once, and the rows that were read last are kept."""

    def __init__(self, folder: Path, hashes: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._hashes = dict(hashes or {})
        self._last: tuple[str, Rows] | None = None

    def rows(self, raw: Raw) -> Rows:
        """Returns the rows whose columns have the values of `raw.where`.

        Raises `RunError` if the file is outside the folder, is missing, has another sha256, cannot be read, or lacks
        one of the columns.
        """
        name = raw.path
        if (found := self._sha256(name)) != raw.sha256:
            raise RunError(f"{name} was changed: expected sha256 {raw.sha256[:12]}…, found {found[:12]}….")
        if self._last is None or self._last[0] != name:
            self._last = None  # free the previous rows before reading the next ones
            self._last = (name, read_table(self.folder / name, name))
        rows = self._last[1]
        if rows and (missing := sorted(raw.where.keys() - rows[0].keys())):
            raise RunError(f"{name} has no column {', '.join(missing)}.")
        return [row for row in rows if raw.where.items() <= row.items()] if raw.where else rows

    def estimate(self, raw: Raw, statistic: str, parameters: Mapping[str, Any]) -> Estimate:
        """Computes a statistic. Raises `RunError` if the file was changed, or if the rows do not fit the statistic."""
        if statistic not in STATISTICS:
            raise RunError(f"Unknown statistic {statistic!r}. Expected one of: {', '.join(STATISTICS)}.")
        rows = self.rows(raw)
        try:
            return STATISTICS.get(statistic)(rows, **parameters)
        except (UsageError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise RunError(f"{raw.path}: {statistic}({dict(parameters)}) cannot be applied: {error!r}.") from error

    def _sha256(self, name: str) -> str:
        if name not in self._hashes:
            path = inside(self.folder, name)
            if not path.is_file():
                raise RunError(f"{name} is missing. Its records cannot be recomputed; restore the file.")
            with explained(RunError, f"{name} cannot be read", "Check its permissions.", OSError):
                self._hashes[name] = sha256_file(path)
        return self._hashes[name]
