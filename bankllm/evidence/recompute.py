"""Apply a named statistic to a raw file, after checking that the file is the one that is meant.

Standard library alone: `bankllm verify` and every run's own `verify.py` do the same as the notebook did.
"""

import hashlib
import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bankllm.errors import RunError
from bankllm.evidence.csv_table import FILE_BYTES, Table, inside, read_table
from bankllm.evidence.statistics.estimate import Estimate
from bankllm.evidence.statistics.registry import STATISTICS


class RawFiles:
    """The raw files of a run; each is hashed once, and the last one read is kept for the next record."""

    def __init__(self, folder: Path, wanted: Mapping[str, Collection[str]] | None = None) -> None:
        """`wanted` maps a path to all the columns that will be asked for, so that its file is read once."""
        self.folder = folder
        self._wanted = wanted or {}
        self._hashes: dict[str, str] = {}
        self._last: tuple[str, Table] | None = None

    def sha256(self, name: str) -> str:
        """Of a file of the run. Raises `RunError` where it is missing, too large, or lies elsewhere."""
        if name not in self._hashes:
            path = inside(self.folder, name)
            if not path.is_file():
                raise RunError(f"{name} is missing. A record without its raw file cannot be checked.")
            try:
                if (size := path.stat().st_size) > FILE_BYTES:
                    raise RunError(f"{name} holds {size // 2**20} MiB; so large a file is not read.")
                self._hashes[name] = sha256_file(path)
            except OSError as error:
                raise RunError(f"{name} cannot be read ({error}).") from error
        return self._hashes[name]

    def rows(self, name: str, sha256: str, where: Mapping[str, str], columns: Collection[str] | None) -> Table:
        """The rows that hold the values of `where`; of `columns` those that the file has, or all.

        Raises `RunError` if the file left the folder, is missing, was changed or cannot be read.
        """
        if (found := self.sha256(name)) != sha256:
            raise RunError(f"{name} was changed: expected sha256 {sha256[:12]}…, found {found[:12]}….")
        needed = None if columns is None else {*columns, *where}
        together = self._wanted.get(name)
        if needed is None or together is None or not needed <= set(together):
            return read_table(self.folder / name, name, needed).where(where, name)
        if self._last is None or self._last[0] != name:
            self._last = None  # one table at a time is held
            self._last = (name, read_table(self.folder / name, name, together))
        return self._last[1].select(needed).where(where, name)

    def estimate(
        self, name: str, sha256: str, where: Mapping[str, str], statistic: str, parameters: Mapping[str, Any]
    ) -> Estimate:
        """What the statistic gives. Raises `RunError` where the file or a column is not what the record says."""
        if statistic not in STATISTICS:
            raise RunError(f"Unknown statistic {statistic!r}. Expected one of: {', '.join(STATISTICS)}.")
        function = STATISTICS[statistic]
        rows = self.rows(name, sha256, where, needed_columns(statistic, parameters))
        try:
            return function(rows, **parameters)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise RunError(f"{name}: {statistic}({dict(parameters)}) cannot be applied: {error!r}.") from error


def needed_columns(statistic: str, parameters: Mapping[str, Any]) -> set[str]:
    """Every text among the arguments of a statistic, and of one that it applies: what may name a column."""
    functions = [STATISTICS[name] for name in (statistic, parameters.get("of")) if name in STATISTICS]
    defaults = [p.default for function in functions for p in inspect.signature(function).parameters.values()]
    return {value for value in (*defaults, *parameters.values()) if isinstance(value, str)}


def sha256_file(path: Path) -> str:
    """Of a file's bytes, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
