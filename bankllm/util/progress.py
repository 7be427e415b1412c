"""Show where a long run is: `StatusLine` writes the text that `RunProgress` makes of it."""

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from typing import Self, TextIO

LOG_S = 30.0
"""Seconds between two status lines in a log."""


class RunProgress:
    """Where a run of several notebooks is, and how long it will still take."""

    def __init__(self, expected_s: Mapping[str, float], now: Callable[[], float] = time.monotonic) -> None:
        """`expected_s`: notebook → seconds that it takes on a reference machine, in the order of the run."""
        self._todo, self._now = dict(expected_s), now
        self._notebook, self._cell, self._cells, self._step = "", 0, 0, ""
        self._expected = self._took = self._should_have_taken = 0.0
        self._notebook_began = self._cell_began = now()

    def start_notebook(self, name: str, cells: int) -> None:
        self._notebook, self._cells, self._notebook_began = name, cells, self._now()
        self._expected = self._todo.pop(name, 0.0)

    def start_cell(self, cell: int, section: str) -> None:
        """`cell` counts from 1; `section` is the heading above the cell."""
        self._cell, self._step, self._cell_began = cell, section, self._now()

    def write(self, output: str) -> None:
        """Take the last line that a cell has printed as the current step."""
        self._step = output.strip().rpartition("\n")[2] or self._step

    def flush(self) -> None:
        """papermill calls it after `write`."""

    def end_notebook(self) -> None:
        self._took += self._now() - self._notebook_began
        self._should_have_taken += self._expected
        self._notebook = ""

    def left_s(self) -> float:
        """Seconds left: what is expected, or more if the notebooks before this one were slower than expected.

        A run that was faster promises no less: models may be cached, and a load lasts equally long everywhere.
        """
        speed = max(1.0, self._took / self._should_have_taken) if self._should_have_taken else 1.0
        here = max(0.0, self._expected * speed - (self._now() - self._notebook_began))
        return here + sum(self._todo.values()) * speed

    def text(self) -> str:
        """One line, empty between two notebooks: `03 Fine-tuning, cell 14 of 40 (85 s), about 7 min left: ...`."""
        if not self._notebook:
            return ""
        left, late = self.left_s(), self._now() - self._notebook_began > self._expected
        about = f"{'more than' if late else 'about'} {left / 60:.0f} min left"
        if left < 45:
            about = "longer than expected" if late else "less than 1 min left"
        about = f", {about}" if self._expected else ""
        where = f"{self._notebook}, cell {self._cell} of {self._cells} ({self._now() - self._cell_began:.0f} s)"
        return f"{where}{about}: {self._step}".rstrip(": ")


class StatusLine:
    """On a terminal, one line that is rewritten every second; elsewhere a plain line every `LOG_S` seconds."""

    def __init__(self, stream: TextIO, every_s: float | None = None) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._every_s = every_s or (1.0 if self._terminal else LOG_S)
        self._text: Callable[[], str] = str
        self._lock, self._done = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._write()

    def show(self, text: Callable[[], str]) -> None:
        """Show what `text` returns, from now on."""
        self._text = text

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self._write(text + "\n")

    def _repeat(self) -> None:
        while not self._done.wait(self._every_s):
            if text := self._text():
                self._write(text if self._terminal else text + "\n")

    def _write(self, text: str = "") -> None:
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            if self._terminal:
                text = "\r" + " " * width + "\r" + (text if text.endswith("\n") else text[:width])
            self._stream.write(text)
            self._stream.flush()
