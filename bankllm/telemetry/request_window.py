"""Latency and errors of the last minutes over all worker processes, from mergeable quantile sketches (DDSketch).

A worker writes its sketches, one per minute, to its own file in the shared folder every second. Each worker merges the
files of all workers. The file of an ended worker stays.
"""

import base64
import contextlib
import json
import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddsketch import DDSketch
from ddsketch.pb.ddsketch_pb2 import DDSketch as Message
from ddsketch.pb.proto import DDSketchProto

WINDOW_MINUTES = 10  # the current one and the nine before it
RELATIVE_ACCURACY = 0.01  # largest relative error of a percentile
PUBLISH_S = 1.0
PATTERN = "*.window"


@dataclass
class Period:
    durations: DDSketch = field(default_factory=lambda: DDSketch(RELATIVE_ACCURACY))  # in s
    failed: int = 0  # requests with a status 5xx
    first_tokens: DDSketch = field(default_factory=lambda: DDSketch(RELATIVE_ACCURACY))  # in s
    tokens: int = 0


class RequestWindow:
    """The requests of this process, or of all workers that share `folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self._total = 0
        self._minutes: defaultdict[int, Period] = defaultdict(Period)
        self._lock, self._file_lock = threading.Lock(), threading.Lock()
        self._folder = folder
        if folder is not None:
            # The time distinguishes this file from that of an ended process with the same id.
            self._file = folder / PATTERN.replace("*", f"{os.getpid()}-{time.monotonic_ns()}")
            threading.Thread(target=self._publish_regularly, name="request-window", daemon=True).start()

    def add(self, seconds: float, failed: bool) -> None:
        with self._lock:
            period = self._minutes[_minute()]
            period.durations.add(seconds)
            period.failed += failed
            self._total += 1

    def add_generated(self, first_token_s: float, tokens: int) -> None:
        with self._lock:
            period = self._minutes[_minute()]
            period.first_tokens.add(first_token_s)
            period.tokens += tokens

    def read(self) -> tuple[int, Period, float]:
        """The requests since the start, those of the window, and its length in s, over live and ended workers."""
        workers = [self._snapshot()]
        if self._folder is not None:
            self._publish()
            workers = [json.loads(file.read_bytes()) for file in self._folder.glob(PATTERN)]
        window, first = Period(), _minute()
        for worker in workers:
            for minute, failed, tokens, *sketches in worker["minutes"]:
                if minute > _minute() - WINDOW_MINUTES:
                    for sketch, sent in zip((window.durations, window.first_tokens), sketches, strict=True):
                        sketch.merge(DDSketchProto.from_proto(Message.FromString(base64.b64decode(sent))))
                    window.failed += failed
                    window.tokens += tokens
                    first = min(first, minute)
        return sum(worker["total"] for worker in workers), window, time.monotonic() - 60 * first

    def _snapshot(self) -> dict[str, Any]:
        with self._lock:
            for minute in [minute for minute in self._minutes if minute <= _minute() - WINDOW_MINUTES]:
                del self._minutes[minute]
            minutes = [
                (minute, period.failed, period.tokens, _text(period.durations), _text(period.first_tokens))
                for minute, period in self._minutes.items()
            ]
            return {"total": self._total, "minutes": minutes}

    def _publish(self) -> None:
        with self._file_lock:
            new = self._file.with_suffix(".new")
            new.write_text(json.dumps(self._snapshot(), default=bytes.decode))
            new.replace(self._file)

    def _publish_regularly(self) -> None:
        while True:
            time.sleep(PUBLISH_S)
            with contextlib.suppress(OSError):  # a full disk; the next second may succeed
                self._publish()


def _text(sketch: DDSketch) -> bytes:
    return base64.b64encode(DDSketchProto.to_proto(sketch).SerializeToString())


def _minute() -> int:
    # The monotonic clock is the same for all processes of a machine.
    return int(time.monotonic() // 60)
