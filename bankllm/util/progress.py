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
        self._todo = dict(expected_s)
        self._now = now
        self._notebook, self._cell, self._cells, self._section, self._step = "", 0, 0, "", ""
        self._expected = self._elapsed_before = self._expected_before = 0.0
        self._notebook_began = self._cell_began = now()

    def start_notebook(self, name: str, cells: int) -> None:
        self._notebook, self._cells, self._notebook_began = name, cells, self._now()
        self._expected = self._todo.pop(name, 0.0)

    def start_cell(self, cell: int, section: str) -> None:
        """`cell` counts from 1; `section` is the heading above the cell."""
        self._cell, self._section, self._step, self._cell_began = cell, section, "", self._now()

    def write(self, output: str) -> None:
        """Take the last line that a cell has printed as the current step."""
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        self._step = lines[-1] if lines else self._step

    def flush(self) -> None:
        """papermill calls it after `write`."""

    def end_notebook(self) -> None:
        self._elapsed_before += self._now() - self._notebook_began
        self._expected_before += self._expected
        self._notebook = ""

    def left_s(self) -> float | None:
        """Seconds left: what is expected, or more if the run was slower than expected so far. None if it is unknown.

        A run that was faster promises no less: models may be cached, and a load lasts equally long everywhere.
        """
        rest, here = sum(self._todo.values()), self._now() - self._notebook_began
        if not self._expected:
            return None
        speed = max(1.0, (self._elapsed_before + here) / (self._expected_before + self._expected))
        if self._expected_before:
            speed = max(speed, self._elapsed_before / self._expected_before)
        return max(0.0, self._expected * speed - here) + rest * speed

    def text(self) -> str:
        """One line, empty between two notebooks: `03 Fine-tuning, cell 14 of 40 (85 s), about 7 min left: ...`."""
        if not self._notebook:
            return ""
        left, late = self.left_s(), self._now() - self._notebook_began > self._expected
        about = "longer than expected" if late else "less than 1 min left"
        if left is not None and left >= 45:
            about = f"{'more than' if late else 'about'} {left / 60:.0f} min left"
        about = "" if left is None else f", {about}"
        where = f"{self._notebook}, cell {self._cell} of {self._cells} ({self._now() - self._cell_began:.0f} s)"
        return f"{where}{about}: {self._step or self._section}".rstrip(": ")


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
