"""An approximate index of the vectors of a large namespace: an HNSW graph (arXiv 1603.09320) of the package usearch.

The graph is built by a thread in the background, and searches are exact until it is ready. It only proposes rows, from
vectors of 8 bits; their scores are then computed from the exact vectors. It is not saved, because a file would keep
what was deleted, and like its matrix it is made again after a row was deleted or replaced.
"""

import threading
import weakref
from contextlib import suppress

import numpy as np

PROPOSALS = 4
"""Rows that the graph proposes per requested match."""
MAX_TOP_K = 100
"""Searches for more matches are exact."""
TAIL_ROWS = 10_000
"""The newest rows, up to this number, are searched exactly until they join the graph."""
SLICE_ROWS = 128
"""Rows that join the graph at a time (about 20 ms); searches wait meanwhile."""

THREAD = "neighbor-graph"
"""Name of the threads that build graphs."""


class NeighborGraph:
    """The graph of one matrix and of the matrices that extend it. Thread-safe."""

    def __init__(self, dim: int) -> None:
        with suppress(ImportError):  # if ONNX Runtime is imported after usearch, the process crashes
            import onnxruntime  # noqa: F401
        from usearch.index import Index

        self.ready = 0
        """Number of rows, from the oldest, that searches find in the graph."""
        self._index = Index(ndim=dim, metric="ip", dtype="i8", connectivity=16, expansion_add=64, expansion_search=128)
        self._lock = threading.Lock()  # without it, usearch crashes if a thread reads anything while another one adds
        self.nbytes = 0
        """Memory of the graph in bytes."""
        self._building = False

    def propose(self, vectors: np.ndarray, queries: np.ndarray, top_k: int) -> np.ndarray | None:
        """Return positions in `vectors` (rows, dim), ascending: the nearest to each query (n, dim), and others.

        None if the search must be exact, because the graph is not ready or many matches are wanted.
        """
        rows = len(vectors)
        if top_k > MAX_TOP_K:
            return None
        with self._lock:
            ready = self.ready
            if rows > ready + TAIL_ROWS // 2 and not self._building:
                self._building = True
                threading.Thread(target=_build, args=(weakref.ref(self), vectors), name=THREAD).start()
            if not ready or rows > ready + TAIL_ROWS:
                return None
            near = self._index.search(queries, min(PROPOSALS * top_k, ready), threads=1).keys.astype(np.int64)
        near = np.unique(near)
        return np.concatenate([near[(near >= 0) & (near < min(ready, rows))], np.arange(ready, rows)])

    def add(self, vectors: np.ndarray) -> bool:
        """Add the next slice of rows; return whether all are in the graph."""
        with self._lock:
            start = len(self._index)
            stop = min(start + SLICE_ROWS, len(vectors))
            self._index.add(np.arange(start, stop), vectors[start:stop], threads=1)
            self.nbytes = int(self._index.memory_usage)
            if stop == len(vectors):
                self.ready, self._building = stop, False
        return stop == len(vectors)


def _build(graph: "weakref.ref[NeighborGraph]", vectors: np.ndarray) -> None:
    """Add all rows; end early if the process ends, or nothing else refers to the graph: its matrix is out of date."""
    # No daemon: usearch would abort a process that ends while a thread is in it.
    while threading.main_thread().is_alive() and (alive := graph()) is not None and not alive.add(vectors):
        del alive
