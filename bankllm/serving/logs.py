"""The server's log: one JSON object per line on stderr, and optionally in a file.

No caller puts a customer's text, a header or a query string into a message or a field. JSON escapes control characters,
so a logged text cannot start a new line.

Several workers share one stderr and one file. Each line is one write of at most `MAX_LINE_BYTES`, which is atomic for a
pipe and for a file on a local disk in append mode. The file may be rotated, for example by logrotate.
"""

import json
import logging
import logging.config
import re
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi.exceptions import ValidationException
from pydantic import ValidationError
from pythonjsonlogger.json import JsonFormatter

from bankllm.errors import ServerError, explained
from bankllm.util.redaction import mask

NAMES = {"asctime": "ts", "levelname": "level", "name": "logger", "process": "pid", "exc_info": "exception"}
"""Attribute of a log record → its name in the line."""
FIELDS = frozenset({"message", *NAMES.values(), "request_id", "route", "method", "status", "duration_ms"})
MAX_LINE_BYTES = 4096
"""PIPE_BUF on Linux. A longer traceback is cut at its beginning, a longer message at its end."""
MAX_FRAMES = 12
"""How many of the innermost frames of an exception are logged."""
PRIVATE_PATTERNS = (
    (re.compile(r"input_value=.*?, input_type=", re.DOTALL), "input_value=…, input_type="),
    (re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*"), r"\1?…"),
    (re.compile(r"\bBearer\s+\S+", re.IGNORECASE), "Bearer …"),
)
"""Private parts of exception texts and their replacements: a value that pydantic rejected, a query string, a token."""


def log_config(log_file: Path | None = None) -> dict[str, Any]:
    """The configuration for `logging.config.dictConfig` and for `uvicorn.Config(log_config=…)`.

    Raises `ServerError` for a file that cannot be written.
    """
    stderr = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "json"}
    handlers = {"stderr": stderr}
    if log_file is not None:
        advice = (
            "Expected a file in a folder that this user may write to. Choose another file with --log-file, or omit it: "
            "the log is always written to stderr."
        )
        with explained(ServerError, f"The log file {log_file} cannot be written", advice, OSError):
            log_file.parent.mkdir(parents=True, exist_ok=True)
            log_file.open("a").close()
        watched = "logging.handlers.WatchedFileHandler"
        handlers["file"] = {"class": watched, "filename": str(log_file), "formatter": "json"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLines}},
        "handlers": handlers,
        "root": {"handlers": list(handlers), "level": "WARNING"},
        "loggers": {
            "bankllm": {"level": "INFO"},
            "uvicorn": {"level": "INFO", "handlers": [], "propagate": True},
            "uvicorn.error": {"level": "INFO"},
            # uvicorn's access log contains query strings. The middleware `Observe` logs each request instead.
            "uvicorn.access": {"handlers": [], "propagate": False},
        },
    }


class JsonLines(JsonFormatter):
    """A record as one JSON object: `ts` (ISO 8601, UTC), `level`, `logger`, `message`, `pid`, extras, `exception`."""

    def __init__(self) -> None:
        super().__init__(["asctime", "levelname", "name", "message", "process"], rename_fields=NAMES)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def formatException(self, ei: Any) -> str:
        return describe(ei[1])

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        fields = {name: value for name, value in log_data.items() if name in FIELDS and value is not None}
        return fields | {"message": mask(fields["message"])}

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        line = super().serialize_log_record(log_data)
        while len(line) >= MAX_LINE_BYTES:
            name = max(("message", "exception"), key=lambda name: len(json.dumps(log_data.get(name, ""))))
            text, half = log_data[name], len(log_data[name]) // 2
            log_data[name] = f"…{text[-half:]}" if name == "exception" else f"{text[:half]}…"
            line = super().serialize_log_record(log_data)
        return line


def describe(error: BaseException) -> str:
    """The traceback of an exception and of the exceptions that caused it, oldest first, without a customer's values.

    Of a validation error, which quotes the values that it rejects, only the error types are included.
    """
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return mask("\n\n".join(_describe_one(link) for link in reversed(chain)))


def _describe_one(error: BaseException) -> str:
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__, limit=-MAX_FRAMES))
    if isinstance(error, (ValidationError, ValidationException)):
        text = f"invalid values ({', '.join(str(fault['type']) for fault in error.errors())})"
    else:
        text = str(error)
        for pattern, replacement in PRIVATE_PATTERNS:
            text = pattern.sub(replacement, text)
    described = "".join(["Traceback (innermost call last):\n", *frames, f"{type(error).__qualname__}: {text}"])
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return "\n\n".join([described, *map(describe, members)])
