"""The checkpoint folder of a fine-tuning: TRL's `checkpoint-<step>` folders, each marked when it is complete.

`bankllm.json` is written last, with one rename, so the folder of a killed process is recognised and not used.
"""

import json
from pathlib import Path
from typing import Any

from bankllm.errors import UsageError
from bankllm.training.checkpoint import refuse_other
from bankllm.util.atomic_files import atomic_writer, check_writable

MARK = "bankllm.json"


class Checkpoints:
    """The checkpoints of the training that `source` identifies.

    The constructor raises `UsageError` if the folder holds other files or another training, and `RunError` if it cannot
    be written.
    """

    def __init__(self, folder: Path, source: dict[str, Any]) -> None:
        self.source: dict[str, Any] = json.loads(json.dumps(source))
        self.newest: Path | None = None
        """The newest complete checkpoint."""
        self.state: dict[str, Any] = {}
        """What `mark` got with it."""
        check_writable(folder / MARK)
        if strange := [path.name for path in folder.iterdir() if not path.name.startswith(("checkpoint-", "README."))]:
            raise UsageError(
                f"{folder} holds {strange[0]}, which is no checkpoint of a fine-tuning. Choose a new or empty folder."
            )
        for mark in sorted(
            folder.glob(f"checkpoint-*/{MARK}"), key=lambda path: int(path.parent.name.partition("-")[2])
        ):
            found = json.loads(mark.read_bytes())
            refuse_other(found["source"], self.source, folder)
            self.newest, self.state = mark.parent, found["state"]

    def mark(self, folder: Path, state: dict[str, Any]) -> None:
        """Declare a checkpoint complete."""
        with atomic_writer(folder / MARK) as file:
            file.write(json.dumps({"source": self.source, "state": state}).encode())
