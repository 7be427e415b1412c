"""Read the raw rows of a run as somebody who trusts neither the file nor its size.

Plain or gzip CSV, streamed: only the columns that a statistic needs are held, within a stated amount of memory.
Standard library alone; a part of every run's own `verify.py`.
"""

import csv
import gzip
import sys
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from bankllm.errors import RunError

FILE_BYTES = 256 * 2**20
"""The most that a raw file may hold once it is unpacked."""
HELD_BYTES = 128 * 2**20
"""The most memory that the cells of one table may take."""
ROWS = 1_000_000
"""The most rows of a raw file."""
LINE_CHARACTERS = 2**17
SHARED_VALUES = 4096
"""Of each column, so many distinct values are kept once however often they occur (labels, statuses)."""


class Table(Sequence[dict[str, str]]):
    """Rows by column: `table[i]` and iteration give them as `csv.DictReader` would."""

    def __init__(self, columns: Mapping[str, list[str]], length: int) -> None:
        self._columns = columns
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            places = range(self._length)[index]
            return Table({name: cells[index] for name, cells in self._columns.items()}, len(places))
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return {name: cells[index] for name, cells in self._columns.items()}

    def __iter__(self) -> Iterator[dict[str, str]]:
        if not self._columns:
            return ({} for _ in range(self._length))
        names = list(self._columns)
        return (dict(zip(names, cells, strict=True)) for cells in zip(*self._columns.values(), strict=True))

    def select(self, columns: Collection[str]) -> "Table":
        """Only these columns, where there are such."""
        return Table({name: cells for name, cells in self._columns.items() if name in columns}, self._length)

    def where(self, values: Mapping[str, str], name: str) -> "Table":
        """Only rows that hold these values, compared as text. Raises `RunError` for a column that `name` lacks."""
        missing = sorted(set(values) - set(self._columns))
        if missing:
            raise RunError(f"{name} has no column {', '.join(missing)}.")
        if not values:
            return self
        wanted = tuple(values.values())
        cells = zip(*(self._columns[column] for column in values), strict=True)
        kept = [i for i, found in enumerate(cells) if found == wanted]
        return Table({column: [all_of[i] for i in kept] for column, all_of in self._columns.items()}, len(kept))


def inside(folder: Path, name: str) -> Path:
    """The file of that name in a run's folder. Raises `RunError` for one that leads out of it, or is a link."""
    path = folder / name
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
        raise RunError(f"{name} lies outside the run's folder. The files of a run must lie in it.")
    if any((folder / Path(*parts[:depth])).is_symlink() for depth in range(1, len(parts) + 1)):
        raise RunError(f"{name} is a link. The files of a run must lie in its folder, which can then be copied.")
    return path


def read_table(path: Path, name: str, columns: Collection[str] | None = None) -> Table:
    """The rows of a raw file; of `columns` those that it has, or all.

    Raises `RunError` naming the line that cannot be read, or where the file holds more than is read.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            text = TextIOWrapper(file, encoding="utf-8", newline="")
            return _collect(csv.reader(_lines(text, name), strict=True), name, columns)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RunError(f"{name} cannot be read as CSV text ({type(error).__name__}: {error}).") from error


def _lines(text: TextIOWrapper, name: str) -> Iterator[str]:
    """Lines, as long as they and their sum stay within bounds: a gzip file of a megabyte may unpack to a thousand."""
    read = 0
    while line := text.readline(LINE_CHARACTERS):
        read += len(line)
        if len(line) == LINE_CHARACTERS:
            raise RunError(f"{name} holds a line of more than {LINE_CHARACTERS:,} characters: not rows of a run.")
        if read > FILE_BYTES:
            raise RunError(f"{name} unpacks to more than {FILE_BYTES // 2**20} MiB; so large a file is not read.")
        yield line


def _collect(reader: Any, name: str, columns: Collection[str] | None) -> Table:
    """The wanted columns of a `csv.reader`."""
    try:
        header = next(reader, None)
        if not header or len(set(header)) < len(header):
            raise RunError(f"{name} has no header of distinct columns.")
        places = [i for i, column in enumerate(header) if columns is None or column in columns]
        cells: list[list[str]] = [[] for _ in places]
        shared: list[dict[str, str]] = [{} for _ in places]
        length = held = 0
        for row in reader:
            if len(row) != len(header):
                if not row:
                    continue
                raise RunError(f"{name}, line {reader.line_num}: expected {len(header)} cells, found {len(row)}.")
            length += 1
            for column, known, place in zip(cells, shared, places, strict=True):
                cell = row[place]
                if (old := known.get(cell)) is None:
                    held += sys.getsizeof(cell)
                    if len(known) < SHARED_VALUES:
                        known[cell] = cell
                else:
                    cell = old
                column.append(cell)
            held += 8 * len(places)
            if length > ROWS:
                raise RunError(f"{name} holds more than {ROWS:,} rows; split it into parts.")
            if held > HELD_BYTES:
                raise RunError(f"{name} needs more than {HELD_BYTES // 2**20} MiB of memory; split it into parts.")
    except csv.Error as error:
        raise RunError(f"{name}, line {reader.line_num}: {error}.") from error
    return Table({header[i]: column for i, column in zip(places, cells, strict=True)}, length)
