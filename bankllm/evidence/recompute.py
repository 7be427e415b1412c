"""Compute a named statistic from a raw file, after checking the sha256 of the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bankllm.errors import RunError, UsageError
from bankllm.evidence.csv_table import Table, inside, read_table
from bankllm.evidence.documents import Raw
from bankllm.evidence.statistics.statistic import STATISTICS, Estimate
from bankllm.util.file_hash import sha256_file


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
