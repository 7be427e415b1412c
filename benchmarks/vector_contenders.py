"""The stores that the vector benchmarks compare, and functions to fill, search and kill one in a separate process."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from vector_data import Sample

import bankllm
from bankllm.errors import StoreError
from bankllm.settings import project_root

FOLDER = project_root() / "build" / "peers-vectors"
"""Separate from our environment, whose versions are pinned by the lock file."""
VERSIONS = "faiss-cpu==1.15.1 chromadb==1.5.9 lancedb==0.40.0"
INSTALL = f"pip install --target {FOLDER} -c requirements.lock {VERSIONS}"
CHILD = Path(__file__).parent / "peers" / "vector_child.py"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS")


@dataclass(frozen=True)
class Contender:
    """A store in one layout: all rows in one partition (`whole`), or one partition per customer (`customers`)."""

    name: str
    store: str
    """The name of the store in `vector_child.py`."""
    layout: str
    package: str
    can_filter: bool = True
    """Whether a search can be limited to one customer in this layout."""
    keeps_log: bool = True
    """Whether the library makes single inserts durable; otherwise the whole file is rewritten after each insert."""

    @property
    def version(self) -> str | None:
        """The installed version; None if it is not installed."""
        found = metadata.distributions(name=self.package, path=[str(FOLDER), *sys.path])
        return next((distribution.version for distribution in found), None)


CONTENDERS = (
    Contender("bankllm, a namespace per customer", "ours", "customers", "bankllm"),
    Contender("bankllm, one namespace", "ours", "whole", "bankllm", can_filter=False),
    Contender("FAISS flat", "faiss", "whole", "faiss-cpu", keeps_log=False),
    Contender("FAISS flat, an index per customer", "faiss", "customers", "faiss-cpu", keeps_log=False),
    Contender("Chroma", "chroma", "whole", "chromadb"),
    Contender("Chroma, a collection per customer", "chroma", "customers", "chromadb"),
    Contender("LanceDB", "lance", "whole", "lancedb"),
)


def run_phase(contender: Contender, phase: str, sample: Sample, folder: Path, *arguments: str) -> dict:
    """Run a phase in `vector_child.py` and return its results. Raises `StoreError` if the phase fails."""
    command = _command(contender, phase, sample, folder, arguments)
    finished = subprocess.run(command, env=_environment(contender), capture_output=True, text=True)
    if finished.returncode:
        raise StoreError(
            f"{contender.name}: the phase {phase} exited with code {finished.returncode}, expected 0. Its last error "
            f"line: {(finished.stderr.strip() or '(none)').splitlines()[-1]}"
        )
    return json.loads(finished.stdout.splitlines()[-1])


def insert_and_kill(contender: Contender, sample: Sample, folder: Path, *arguments: str) -> tuple[list[float], int]:
    """Insert single rows, then kill the process (SIGKILL).

    Returns the ms of each acknowledged insert, and the number of those that a new process does not find.
    """
    rows_before = run_phase(contender, "count", sample, folder)["count"]
    command = _command(contender, "insert", sample, folder, arguments)
    with subprocess.Popen(command, env=_environment(contender), stdout=subprocess.PIPE, text=True) as child:
        try:
            took = [float(line) for line in iter(child.stdout.readline, "done\n")]
        except ValueError:
            raise StoreError(f"{contender.name} exited before it was killed. See its error above.") from None
        finally:
            child.kill()
    found = run_phase(contender, "count", sample, folder)["count"]
    return took, max(0, rows_before + len(took) - found)


def _command(contender: Contender, phase: str, sample: Sample, folder: Path, arguments: Sequence[str]) -> list[str]:
    what = [phase, "--store", contender.store, "--layout", contender.layout]
    return [sys.executable, str(CHILD), *what, "--sample", str(sample.folder), "--folder", str(folder), *arguments]


def _environment(contender: Contender) -> dict[str, str]:
    """Return an environment with one thread, this checkout's package and, for a peer, its installation folder."""
    paths = [] if contender.store == "ours" else [str(FOLDER)]
    paths += [str(Path(bankllm.__file__).parents[1])]
    return os.environ | dict.fromkeys(ONE_THREAD, "1") | {"PYTHONPATH": os.pathsep.join(paths)}
