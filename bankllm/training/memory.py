"""Measure the peak memory of a block of code: `with PeakMemory("cpu") as memory: ...`, then `memory.peak()`."""

import ctypes
import gc
import sys
import threading
from typing import Self

import psutil
import torch

SAMPLE_S = 0.02


class PeakMemory:
    """Peak memory inside the block, minus the memory in use before it.

    On a CPU a thread samples the resident memory of the process. On a GPU the values come from torch's allocator.
    """

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda")
        self._peak = 0
        self._process = psutil.Process()
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        # glibc keeps freed memory, and a second training in the process would reuse it uncounted.
        gc.collect()
        if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
            ctypes.CDLL(None).malloc_trim(0)
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._level = torch.cuda.memory_allocated()
        else:
            self._level = self._process.memory_info().rss
            self._sampler.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.on_gpu:
            self._done.set()
            self._sampler.join()

    def peak(self) -> int:
        """Peak so far in bytes."""
        return torch.cuda.max_memory_allocated() - self._level if self.on_gpu else self._peak

    def _sample(self) -> None:
        finished = False
        while not finished:  # take the last sample after the block has ended
            finished = self._done.wait(SAMPLE_S)
            self._peak = max(self._peak, self._process.memory_info().rss - self._level)
