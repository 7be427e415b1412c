"""A generation engine that writes a fixed text, or is late."""

from collections.abc import Sequence
from typing import Any

from bankllm.model.generation import GenerationRequest


class Written:
    """What `TextStream` has for its reader."""

    def __init__(self, text: str | None, confidence: float) -> None:
        self.written, self.confidence = text or "", confidence
        self.finish = "late" if text is None else "end"

    def text(self) -> str:
        return self.written


class Said:
    name = "said"

    def __init__(self, text: str | None, confidence: float) -> None:
        self.text, self.confidence = text, confidence

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Written]:
        return [Written(self.text, self.confidence) for _ in requests]

    def close(self) -> None: ...


def said(text: str | None, confidence: float = 1) -> Any:
    return Said(text, confidence)
