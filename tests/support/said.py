"""A generation engine that writes a fixed text while `go` is set, or is late."""

import threading
from collections.abc import Sequence
from typing import Any

from bankllm.model.generation import GenerationRequest


class Written:
    """What `TextStream` has for its reader."""

    def __init__(self, text: str | None, confidence: float, go: threading.Event) -> None:
        self.written, self.confidence, self._go = text or "", confidence, go
        self.finish = "late" if text is None else "end"

    def text(self) -> str:
        assert self._go.wait(60)
        return self.written


class Said:
    name = "said"

    def __init__(self, text: str | None, confidence: float) -> None:
        self.text, self.confidence, self.go = text, confidence, threading.Event()
        self.go.set()

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Written]:
        return [Written(self.text, self.confidence, self.go) for _ in requests]

    def close(self) -> None: ...


def said(text: str | None, confidence: float = 1) -> Any:
    return Said(text, confidence)
