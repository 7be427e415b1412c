"""Read the raw files of a run, untrusted CSV (plain or gzip) in bounded memory, and compute statistics of them."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from bankllm.errors import RunError, UsageError
from bankllm.evidence.documents import Raw
from bankllm.evidence.statistics.statistic import STATISTICS, Estimate
from bankllm.util.file_hash import sha256_file

MAX_FILE_BYTES = 256 * 2**20
"""Maximum size of a raw file. Compressed files are checked again after decompression, in characters."""
MAX_CELLS = 2_000_000
"""Maximum number of cells of a file; they need about 130 MB."""
MAX_LINE_CHARACTERS = 2**17


class Table(Sequence[dict[str, str]]):
    """Rows (column name → text), stored by column: at least one, all of the same length."""

    def __init__(self, columns: Mapping[str, list[str]]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, index: Any) -> Any:
        return {name: cells[index] for name, cells in self._columns.items()}

    def __iter__(self) -> Iterator[dict[str, str]]:
        return (dict(zip(self._columns, row, strict=True)) for row in zip(*self._columns.values(), strict=True))

    def where(self, values: Mapping[str, str], name: str) -> "Table":
        """Returns the rows with these values. Raises `RunError` if the file `name` lacks one of the columns."""
        if missing := sorted(set(values) - set(self._columns)):
            raise RunError(f"{name} has no column {', '.join(missing)}.")
        if not values:
            return self
        wanted = tuple(values.values())
        cells = zip(*(self._columns[column] for column in values), strict=True)
        kept = [i for i, row in enumerate(cells) if row == wanted]
        return Table({key: [column[i] for i in kept] for key, column in self._columns.items()})


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


def read_table(path: Path, name: str) -> Table:
    """Reads a plain or gzip (`.gz`) CSV file; error messages call it `name`.

    Raises `RunError` with the line number if the file is not valid CSV, and if it exceeds a limit of this module.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            text = TextIOWrapper(file, encoding="utf-8", newline="")
            return _collect(csv.reader(_lines(text, name), strict=True), name)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RunError(
            f"{name} cannot be read as CSV text ({type(error).__name__}: {error}). Expected UTF-8, plain or gzip."
        ) from error


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


def _collect(reader: Any, name: str) -> Table:
    try:
        header = next(reader, None)
        if not header or len(set(header)) < len(header):
            raise RunError(f"{name} has no header with distinct column names. Expected a CSV header in line 1.")
        columns: dict[str, list[str]] = {name: [] for name in header}
        max_rows = MAX_CELLS // len(header)
        for count, row in enumerate(filter(None, reader), start=1):
            if len(row) != len(header):
                raise RunError(f"{name}, line {reader.line_num}: expected {len(header)} cells, found {len(row)}.")
            if count > max_rows:
                raise RunError(
                    f"{name} has more than {max_rows:,} rows, the limit for {len(header)} columns. Split it into parts."
                )
            for column, cell in zip(columns.values(), row, strict=True):
                column.append(cell)
    except csv.Error as error:
        raise RunError(f"{name}, line {reader.line_num}: {error}.") from error
    return Table(columns)


class RawFiles:
    """The raw files of a run. Each file is hashed once, and the table that was read last is cached."""

    def __init__(self, folder: Path, hashes: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._hashes = dict(hashes or {})
        self._last: tuple[str, Table] | None = None

    def rows(self, raw: Raw) -> Table:
        """Returns the rows whose columns have the values of `raw.where`.

        Raises `RunError` if the file is outside the folder, is missing, has another sha256, or cannot be read.
        """
        name = raw.path
        if (found := self._sha256(name)) != raw.sha256:
            raise RunError(f"{name} was changed: expected sha256 {raw.sha256[:12]}…, found {found[:12]}….")
        if self._last is None or self._last[0] != name:
            self._last = None  # free the previous table before reading the next one
            self._last = (name, read_table(self.folder / name, name))
        return self._last[1].where(raw.where, name)

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
            try:
                self._hashes[name] = sha256_file(path)
            except OSError as error:
                raise RunError(f"{name} cannot be read ({error}).") from error
        return self._hashes[name]
