"""The server's log: one JSON object per line on stderr, and optionally in a file.

A line contains the record's message and the fields named in `EXTRA_FIELDS`. No caller puts a customer's text, a header
or a query string into either of them. JSON escapes control characters, so a logged text cannot start a new line.

Several workers share one stderr and one file without interleaving their lines. Each line is one write of at most
`MAX_LINE_BYTES`, which is atomic for a pipe and for a file on a local disk that is open in append mode.
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

EXTRA_FIELDS = ("request_id", "route", "method", "status", "duration_ms")
MAX_LINE_BYTES = 4096
"""PIPE_BUF on Linux. A longer traceback is cut at its beginning, a longer message at its end."""
ENCODE = json.JSONEncoder(default=str).encode
MAX_FRAMES, MAX_CHAIN = 12, 4
"""How many of the innermost frames of an exception, and how many chained exceptions, are logged."""
PRIVATE_PATTERNS = (
    (re.compile(r"input_value=.*?, input_type=", re.DOTALL), "input_value=…, input_type="),
    (re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*"), r"\1?…"),
    (re.compile(r"\bBearer\s+\S+", re.IGNORECASE), "Bearer …"),
)
"""Private parts of exception texts and their replacements: a value that pydantic rejected, a query string, a token."""


def configure(log_file: Path | None = None) -> None:
    """Configure logging of this process. Raises `ServerError` for a file that cannot be written."""
    logging.config.dictConfig(log_config(log_file))


def log_config(log_file: Path | None = None) -> dict[str, Any]:
    """The configuration for `logging.config.dictConfig` and for `uvicorn.Config(log_config=…)`.

    On a terminal the lines are plain text instead of JSON. Raises `ServerError` for a file that cannot be written.
    """
    handlers: dict[str, dict[str, Any]] = {
        "stderr": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stderr",
            "formatter": "text" if sys.stderr.isatty() else "json",
        }
    }
    if log_file is not None:
        _check_writable(log_file)
        handlers["file"] = {"()": SharedFile, "path": str(log_file), "formatter": "json"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLines}, "text": {"()": TextLines}},
        "handlers": handlers,
        "root": {"handlers": list(handlers), "level": "WARNING"},
        "loggers": {
            "bankllm": {"level": "INFO"},
            "uvicorn": {"level": "INFO", "handlers": [], "propagate": True},
            "uvicorn.error": {"level": "INFO", "filters": [is_not_websocket_request]},
            # uvicorn's access log contains query strings. The middleware `Observe` logs each request instead.
            "uvicorn.access": {"handlers": [], "propagate": False},
        },
    }


class JsonLines(logging.Formatter):
    """A record as one JSON object: `ts` (ISO 8601, UTC), `level`, `logger`, `message`, `pid`, extras, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line = record.__dict__.get("json_line")  # cached by the other handler
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


class TextLines(logging.Formatter):
    """A record as one line of plain text, followed by its indented traceback."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        extras = [f"{name}={value}" for name, value in _extras(record).items()]
        message = mask(record.getMessage())
        lines = [_visible(" ".join([when, record.levelname, f"{record.name}:", message, *extras]))]
        if record.exc_info and record.exc_info[1]:
            lines += [f"    {_visible(line)}" for line in describe(record.exc_info[1]).split("\n")]
        return "\n".join(lines)


class SharedFile(logging.handlers.WatchedFileHandler):
    """A log file that several processes append to. Above `max_bytes` one process rotates it: `app.log.1` to `.5`.

    The standard RotatingFileHandler is not safe here: after one process has renamed the file, the other processes
    continue to write to the renamed file. This handler checks every `check_interval_s` seconds whether the path still
    refers to the open file, and reopens it if not. The process that rotates the file holds a lock on it and checks
    again after it has acquired the lock. Lines that other processes write before their next check are in `app.log.1`,
    so no line is lost. The file must be on a local disk, because appending over NFS is not atomic.
    """

    def __init__(self, path: str, max_bytes: int = 10_000_000, backups: int = 5, check_interval_s: float = 1.0) -> None:
        super().__init__(path, encoding="utf-8")
        self.max_bytes = max_bytes
        self.backups = backups
        self.check_interval_s = check_interval_s
        self._next_check = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record. If the check interval has passed, first reopen or rotate the file as needed."""
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + self.check_interval_s
            try:
                self._check_file()
            except OSError:  # a logging error must not make a request fail
                self.handleError(record)
        logging.FileHandler.emit(self, record)

    def _check_file(self) -> None:
        self.reopenIfNeeded()
        if self.stream and os.fstat(self.stream.fileno()).st_size >= self.max_bytes:
            self._rotate(self.stream.fileno())
            self.reopenIfNeeded()

    def _rotate(self, file: int) -> None:
        path = Path(self.baseFilename)
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file)):
                return  # another process has already rotated it
            names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, self.backups + 1))]
            # Rename the oldest file first and the current file last: no new file can appear at the path before that.
            for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
                if newer.exists():
                    newer.replace(older)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def describe(error: BaseException) -> str:
    """The traceback of an exception and of the exceptions that caused it, oldest first, without a customer's values.

    Validation errors quote the values that they reject, so only their error types are included. Account and card
    numbers are masked, and the parts that match `PRIVATE_PATTERNS` are removed.
    """
    chain = [error]
    while len(chain) < MAX_CHAIN:
        latest = chain[-1]
        cause = latest.__cause__ or (None if latest.__suppress_context__ else latest.__context__)
        if cause is None or cause in chain:
            break
        chain.append(cause)
    return mask("\n\n".join(_describe_one(link) for link in reversed(chain)))


def _describe_one(error: BaseException) -> str:
    """One exception with its innermost frames. For an exception group, its members follow."""
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__, limit=-MAX_FRAMES))
    if isinstance(error, (ValidationError, ValidationException)):
        faults = error.errors()
        text = f"invalid values ({', '.join(str(fault['type']) for fault in faults)})"
    else:
        text = str(error)
        for pattern, replacement in PRIVATE_PATTERNS:
            text = pattern.sub(replacement, text)
    described = "".join(["Traceback (innermost call last):\n", *frames, f"{type(error).__qualname__}: {text}"])
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return "\n\n".join([described, *map(describe, members)])


def is_not_websocket_request(record: logging.LogRecord) -> bool:
    """Filter that drops uvicorn's records of WebSocket requests, because they contain the query string."""
    return '"WebSocket %s"' not in str(record.msg)


def _fitted(fields: dict[str, Any]) -> str:
    """The JSON line of these fields. Message and exception are cut until the line fits `MAX_LINE_BYTES`."""
    line = ENCODE(fields)
    while (excess_bytes := len(line) + len("\n") - MAX_LINE_BYTES) > 0:
        name = max(("message", "exception"), key=lambda name: len(ENCODE(fields.get(name, ""))))
        text = fields[name]
        if len(text) < 10:
            break
        # An escaped character is 1 to 12 bytes long. Cut at most half at once: the other text may be just as long.
        cut = min(len(text) * excess_bytes // len(ENCODE(text)), len(text) // 2) + len(ENCODE("…"))
        fields[name] = "…" + text[cut:] if name == "exception" else text[:-cut] + "…"
        line = ENCODE(fields)
    return line


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name in EXTRA_FIELDS if (value := getattr(record, name, None)) is not None}


def _visible(text: str) -> str:
    """The text with control characters replaced by escape sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _check_writable(log_file: Path) -> None:
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.open("a").close()
    except OSError as error:
        raise ServerError(
            f"The log file {log_file} cannot be written ({error.strerror}). Expected a file in a folder that this "
            "user may write to. Choose another file with --log-file, or omit it: the log is always written to stderr."
        ) from error
