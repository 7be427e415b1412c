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

    def read(self) -> tuple[int, Period]:
        """The number of requests since the start, and those of the window, over live and ended workers."""
        workers = [self._snapshot()]
        if self._folder is not None:
            self._publish()
            workers = [json.loads(file.read_bytes()) for file in self._folder.glob(PATTERN)]
        window = Period()
        for worker in workers:
            for minute, failed, sketch in worker["minutes"]:
                if minute > _minute() - WINDOW_MINUTES:
                    window.durations.merge(DDSketchProto.from_proto(Message.FromString(base64.b64decode(sketch))))
                    window.failed += failed
        return sum(worker["total"] for worker in workers), window

    def _snapshot(self) -> dict[str, Any]:
        with self._lock:
            for minute in [minute for minute in self._minutes if minute <= _minute() - WINDOW_MINUTES]:
                del self._minutes[minute]
            minutes = [
                (minute, period.failed, base64.b64encode(DDSketchProto.to_proto(period.durations).SerializeToString()))
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


def _minute() -> int:
    # The monotonic clock is the same for all processes of a machine.
    return int(time.monotonic() // 60)
