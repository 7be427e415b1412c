"""Write files that survive a crash: a whole file or folder atomically, or one more line at the end of a file."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bankllm.errors import RunError


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Yields a binary file, which appears at `path` at the end of the block. If the block raises, `path` is unchanged.

    The data goes to a temporary file `.<name>.<8 characters>` in the same folder, which is flushed to disk (fsync) and
    then renamed. Missing parent folders are created. Raises `RunError` if the file cannot be written.
    """
    temporary = None
    with write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            with open(handle, "wb") as file:  # noqa: PTH123  `handle` is a file descriptor
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic_writer(path) as file:
        file.write(text.encode("utf-8"))


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a new folder, which replaces the one at `path` at the end of the block, all files flushed to disk.

    If the block raises, `path` is unchanged. Until then the folder is in `.<name>-<8 characters>` beside `path`.
    """
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as parent:
        new, previous = Path(parent, "new"), Path(parent, "previous")
        new.mkdir()
        yield new
        for written in new.rglob("*"):
            flush_to_disk(written)
        if path.exists():
            path.rename(previous)
        try:
            new.rename(path)
        except OSError:
            if previous.exists():
                previous.rename(path)
            raise
        flush_to_disk(path.parent)


def check_writable(path: Path) -> None:
    """Raise `RunError` if `atomic_writer` cannot write `path`. Call it before the work whose result goes there."""
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "")
        tempfile.TemporaryFile(dir=path.parent, prefix=f".{path.name}.").close()


def flush_to_disk(path: Path) -> None:
    """fsync a file, or a folder after a file in it was renamed."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_line(path: Path, line: str) -> None:
    """Append one line to a text file and flush it to disk (fsync), after `cut_torn_line`. Raises `RunError`."""
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_torn_line(path)
        with path.open("ab") as file:
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())


def cut_torn_line(path: Path) -> None:
    """Remove a last line without a line end: the part that `append_line` wrote before its process was killed."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns an `OSError` of the block, which writes `path`, into a `RunError`."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({os.strerror(error.errno or 0)}). Nothing was changed. Check the folder's "
            "permissions and free space, or choose another folder with --output."
        ) from error
