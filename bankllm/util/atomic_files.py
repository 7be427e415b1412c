"""Write files atomically: readers see the complete file or none."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bankllm.errors import RunError


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Context manager that yields a binary file; at the end of the block the file appears under its final name.

    The data goes to a temporary file `.<name>.<8 characters>` in the same folder, which is flushed to disk (fsync) and
    then renamed. If the block raises, the temporary file is removed and an existing file at `path` stays unchanged.
    Missing parent folders are created. Raises `RunError` if the file cannot be written, for example because of missing
    permissions or a full disk.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with open(handle, "wb") as file:  # noqa: PTH123  `handle` is a file descriptor
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({os.strerror(error.errno or 0)}). Nothing was changed. Check the folder's "
            "permissions and free space, or choose another folder with --output."
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
