"""The server's log: one JSON object a line on stderr, and in a file where one is asked for.

Beside its message only what is named in `EXTRAS` is written of a record; no caller puts a customer's text, a header
or a query string into either. JSON escapes control characters, so that nothing logged can begin a line of its own.
Workers share one stderr and one file without tearing each other's lines: a line is a single write of at most
`LINE_BYTES`, which pipes keep whole, and so do files on a local disk that are opened for appending.
"""

import fcntl
import json
import logging
import logging.config
import logging.handlers
import os
import re
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi.exceptions import ValidationException
from pydantic import ValidationError

from bankllm.errors import ServerError
from bankllm.util.redaction import mask

EXTRAS = ("request_id", "route", "method", "status", "duration_ms")
LINE_BYTES = 4096
"""PIPE_BUF on Linux. A longer traceback loses its beginning, a longer message its end."""
ENCODE = json.JSONEncoder(default=str).encode
FRAMES, CHAIN = 12, 4
"""Innermost frames of an exception that are shown, and exceptions that led to each other."""
PRIVATE = (
    (re.compile(r"input_value=.*?, input_type=", re.DOTALL), "input_value=…, input_type="),
    (re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*"), r"\1?…"),
    (re.compile(r"\bBearer\s+\S+", re.IGNORECASE), "Bearer …"),
)
"""What the text of an exception can quote: the value that pydantic refused, a query string, a token."""


def configure(log_file: Path | None = None) -> None:
    """Log in this form from now on. Raises `ServerError` for a file that cannot be written."""
    logging.config.dictConfig(log_config(log_file))


def log_config(log_file: Path | None = None) -> dict[str, Any]:
    """The configuration for `logging.config.dictConfig`, as `uvicorn.Config(log_config=…)` takes it.

    A terminal gets lines for people. Raises `ServerError` for a file that cannot be written.
    """
    handlers: dict[str, dict[str, Any]] = {
        "stderr": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stderr",
            "formatter": "people" if sys.stderr.isatty() else "json",
        }
    }
    if log_file is not None:
        _check_writable(log_file)
        handlers["file"] = {"()": SharedFile, "path": str(log_file), "formatter": "json"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLines}, "people": {"()": Lines}},
        "handlers": handlers,
        "root": {"handlers": list(handlers), "level": "WARNING"},
        "loggers": {
            "bankllm": {"level": "INFO"},
            "uvicorn": {"level": "INFO", "handlers": [], "propagate": True},
            "uvicorn.error": {"level": "INFO", "filters": [names_no_target]},
            # It writes query strings; the middleware `Observe` has a line of its own for every request.
            "uvicorn.access": {"handlers": [], "propagate": False},
        },
    }


class JsonLines(logging.Formatter):
    """A record as one JSON object: `ts` (ISO 8601, UTC), `level`, `logger`, `message`, `pid`, extras, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line = record.__dict__.get("json_line")  # made for the other handler a moment ago
        if line is None:
            line = record.__dict__["json_line"] = self._line(record)
        return line

    def _line(self, record: logging.LogRecord) -> str:
        fields = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": mask(record.getMessage()),
            "pid": record.process,
            **_extras(record),
        }
        if record.exc_info and record.exc_info[1]:
            fields["exception"] = describe(record.exc_info[1])
        return _fitted(fields)


class Lines(logging.Formatter):
    """A record as a line for people, its traceback indented below."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        extras = [f"{name}={value}" for name, value in _extras(record).items()]
        message = mask(record.getMessage())
        lines = [_visible(" ".join([when, record.levelname, f"{record.name}:", message, *extras]))]
        if record.exc_info and record.exc_info[1]:
            lines += [f"    {_visible(line)}" for line in describe(record.exc_info[1]).split("\n")]
        return "\n".join(lines)


class SharedFile(logging.handlers.WatchedFileHandler):
    """A file that several processes append to. Past `max_bytes` one of them moves it aside: `app.log.1` to `.5`.

    logging's own RotatingFileHandler would rename under the others, which write on into the file that was moved.
    Here everybody looks every `look_s` seconds whether the file is still the one at that path, and whoever moves it
    holds a lock on it and looks again. What another one writes until it looks is in `app.log.1`, and not lost.
    For a local disk: NFS does not append in one step.
    """

    def __init__(self, path: str, max_bytes: int = 10_000_000, kept: int = 5, look_s: float = 1.0) -> None:
        super().__init__(path, encoding="utf-8")
        self.max_bytes = max_bytes
        self.kept = kept
        self.look_s = look_s
        self._next_look = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; before it, where it is time, look after the file."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + self.look_s
            try:
                self._look()
            except OSError:  # a request does not fail for its log
                self.handleError(record)
        logging.FileHandler.emit(self, record)

    def _look(self) -> None:
        self.reopenIfNeeded()
        if self.stream and os.fstat(self.stream.fileno()).st_size >= self.max_bytes:
            self._move_aside(self.stream.fileno())
            self.reopenIfNeeded()

    def _move_aside(self, file: int) -> None:
        path = Path(self.baseFilename)
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file)):
                return  # another process was first
            names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, self.kept + 1))]
            # The oldest first and the file itself last: only after that can there be a new one to move.
            for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
                if newer.exists():
                    newer.replace(older)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def describe(error: BaseException) -> str:
    """An exception and those that led to it, oldest first, without the values that a customer sent.

    Validation errors quote what they refuse, so of them only the kinds of fault are told; numbers that open an
    account are masked, and what is in `PRIVATE` is left out.
    """
    chain = [error]
    while len(chain) < CHAIN:
        latest = chain[-1]
        before = latest.__cause__ or (None if latest.__suppress_context__ else latest.__context__)
        if before is None or before in chain:
            break
        chain.append(before)
    return mask("\n\n".join(_told(link) for link in reversed(chain)))


def _told(error: BaseException) -> str:
    """One exception with its innermost frames; below a group, its parts."""
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__, limit=-FRAMES))
    if isinstance(error, (ValidationError, ValidationException)):
        faults = error.errors()
        text = f"values that do not fit ({', '.join(str(fault['type']) for fault in faults)})"
    else:
        text = str(error)
        for pattern, shown in PRIVATE:
            text = pattern.sub(shown, text)
    told = "".join(["Traceback (innermost call last):\n", *frames, f"{type(error).__qualname__}: {text}"])
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return "\n\n".join([told, *map(describe, parts)])


def names_no_target(record: logging.LogRecord) -> bool:
    """Filter: whether uvicorn's record is other than that of a WebSocket request, which has the query string."""
    return '"WebSocket %s"' not in str(record.msg)


def _fitted(fields: dict[str, Any]) -> str:
    """The line of these fields, its longer text shortened until it fits in `LINE_BYTES`."""
    line = ENCODE(fields)
    while (too_many := len(line) + len("\n") - LINE_BYTES) > 0:
        name = max(("message", "exception"), key=lambda name: len(ENCODE(fields.get(name, ""))))
        text = fields[name]
        if len(text) < 10:
            break
        # Characters take 1 to 12 bytes once they are escaped. Never more than half: the other text may be as long.
        cut = min(len(text) * too_many // len(ENCODE(text)), len(text) // 2) + len(ENCODE("…"))
        fields[name] = "…" + text[cut:] if name == "exception" else text[:-cut] + "…"
        line = ENCODE(fields)
    return line


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name in EXTRAS if (value := getattr(record, name, None)) is not None}


def _visible(text: str) -> str:
    """The text with its control characters as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _check_writable(log_file: Path) -> None:
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.open("a").close()
    except OSError as error:
        raise ServerError(
            f"The log file {log_file} cannot be written ({error.strerror}). Expected a file in a folder that this "
            "user may write to; name another one, or none: the log goes to stderr as well."
        ) from error
