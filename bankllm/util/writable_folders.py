"""Temporary folders in place of those that cannot be written, as without a home folder in containers."""

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

logger = logging.getLogger(__name__)


def ensure_writable(folders: Mapping[str, str | Path]) -> None:
    """Point each environment variable whose folder cannot be written to a temporary folder, which child processes use.

    `folders`: variable → folder that is used if the variable is not set. One warning names the variables. The temporary
    folders are deleted when this process ends.
    """
    wanted = {name: Path(os.environ.get(name) or folder) for name, folder in folders.items()}
    refused = [name for name, folder in wanted.items() if not is_writable(folder)]
    if not refused:
        return
    temporary = Path(tempfile.mkdtemp(prefix="bankllm-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    for name in refused:
        os.environ[name] = str(temporary / name.lower())
        Path(os.environ[name]).mkdir()
    logger.warning(
        "%s cannot be written, so a temporary folder is used. To keep its files, set %s to a writable folder.",
        " and ".join(str(wanted[name]) for name in refused),
        " and ".join(refused),
    )


def is_writable(folder: Path) -> bool:
    """Whether a file can be created in the folder, which is made if it does not exist."""
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError, ValueError):  # no home folder; no valid path
        return False
