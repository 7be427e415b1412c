"""Flush denormal numbers to zero in torch on a CPU, where an operation on one takes about 100 times as long.

A language model's activations contain many: SmolLM2 decodes 17 times as fast without them. The processor's flag belongs
to a thread. A thread takes it over from the thread that starts it, so the worker threads that torch started before the
flag was set have to be replaced. The backward pass of a CPU runs in the calling thread and in the same workers.
"""

import ctypes
import threading

_done = threading.local()
PARALLEL = 32768
"""Elements per thread from which torch divides an operation among its threads."""


def flush_denormals() -> None:
    """Flush denormal numbers in this thread, in torch's worker threads for it, and in the threads that it starts.

    Call it in each thread that runs torch; only the first call of a thread does anything.
    """
    if getattr(_done, "flushed", False):
        return
    import torch

    if torch.set_flush_denormal(True):
        smallest = torch.ones(torch.get_num_threads() * PARALLEL, dtype=torch.int32).view(torch.float32)
        if (smallest * 1).view(torch.int32).any():
            _end_workers()
    _done.flushed = True


def _end_workers() -> None:
    """End the idle worker threads of OpenMP, which starts new ones at the next operation."""
    import threadpoolctl

    omp_pause_soft = 1
    for library in threadpoolctl.threadpool_info():
        if library["user_api"] == "openmp":
            # OpenMP 5.0. Not in Microsoft's library, whose workers keep what they had.
            pause = getattr(ctypes.CDLL(library["filepath"]), "omp_pause_resource_all", None)
            if pause is not None:
                pause(omp_pause_soft)
