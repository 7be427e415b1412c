"""How much memory a piece of work needed: resident memory on a CPU, torch's own on a GPU.

with PeakMemory("cpu") as memory: …; memory.peak_bytes
"""

import ctypes
import gc
import sys
import threading
from types import TracebackType
from typing import Self

import psutil
import torch

SAMPLE_S = 0.02


class PeakMemory:
    """The peak above the level before: resident memory on a CPU, sampled every 20 ms; on a GPU what torch took."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.peak_bytes = 0
        """Resident bytes (CPU), allocated bytes (GPU)."""
        self.reserved_bytes = 0
        """What torch's caching allocator held on the GPU, used or not; 0 on a CPU."""
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        _release_freed_memory()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._level = torch.cuda.memory_allocated()
            self._reserved = torch.cuda.memory_reserved()
        else:
            self._process = psutil.Process()
            self._level = self._process.memory_info().rss
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.startswith("cuda"):
            self.peak_bytes = torch.cuda.max_memory_allocated() - self._level
            self.reserved_bytes = torch.cuda.max_memory_reserved() - self._reserved
        else:
            self._done.set()
            self._sampler.join()

    def now(self) -> int:
        """The peak so far, while the work is still going on."""
        return torch.cuda.max_memory_allocated() - self._level if self.device.startswith("cuda") else self.peak_bytes

    def _sample(self) -> None:
        finished = False
        while not finished:  # so that the last sample comes after the work
            finished = self._done.wait(SAMPLE_S)
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss - self._level)


def _release_freed_memory() -> None:
    """Give back what earlier work freed: glibc keeps it, and a second training in a process would look free."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
        if trim is not None:
            trim(0)
