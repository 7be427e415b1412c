"""Measure the peak memory of a block of code: resident memory on a CPU, memory allocated by torch on a GPU.

with PeakMemory("cpu") as memory:
    ...
print(memory.peak_bytes)
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
"""Seconds between two samples of the resident memory."""


class PeakMemory:
    """Peak memory inside the block, minus the memory in use before the block.

    On a CPU a thread samples the resident memory of the process every 20 ms. On a GPU the value comes from torch's
    allocator statistics.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.peak_bytes = 0
        """Peak in bytes: resident memory (CPU) or allocated memory (GPU)."""
        self.reserved_bytes = 0
        """Peak of the bytes that torch's caching allocator reserved on the GPU, used or not; 0 on a CPU."""
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
        """Peak so far in bytes, while the block is still running."""
        return torch.cuda.max_memory_allocated() - self._level if self.device.startswith("cuda") else self.peak_bytes

    def _sample(self) -> None:
        finished = False
        while not finished:  # take the last sample after the block has ended
            finished = self._done.wait(SAMPLE_S)
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss - self._level)


def _release_freed_memory() -> None:
    """Return freed memory to the operating system.

    glibc keeps freed memory. Without this call, a second training in the process would reuse it, and its measured
    peak would be too low.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
        if trim is not None:
            trim(0)
