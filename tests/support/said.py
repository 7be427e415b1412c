"""A generation engine that writes a fixed text, or nothing until it is cancelled."""

import threading
from collections.abc import Sequence
from typing import Any

from bankllm.model.generation import GenerationRequest


class Written:
    """What `TextStream` has for its reader."""

    def __init__(self, text: str | None) -> None:
        self.cancelled, self._text = threading.Event(), text
        self.finish: str | None = None

    def text(self) -> str:
        if self._text is None:
            self.cancelled.wait()
            self.finish = "cancelled"
            return ""
        self.finish = "end"
        return self._text

    def cancel(self) -> None:
        self.cancelled.set()


class Said:
    name = "said"

    def __init__(self, text: str | None) -> None:
        self.text = text

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Written]:
        return [Written(self.text) for _ in requests]

    def close(self) -> None: ...


def said(text: str | None) -> Any:
    return Said(text)
