"""The sha256 of files."""

import hashlib
from functools import lru_cache
from pathlib import Path


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file. The file is read once per process, and again after a change."""
    state = Path(path).stat()
    return _sha256_of(Path(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _sha256_of(path: Path, mtime_ns: int, size: int) -> str:
    return sha256_file(path)


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file, which is read at each call."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
