"""The stores that the vector benchmarks compare, and functions to fill, search and kill one in a separate process.

faiss = CONTENDERS[2]
run_phase(faiss, "fill", sample, folder)["seconds"]
kill_after_inserts(faiss, sample, folder, count=50)
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
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
SYNCS = "fsync,fdatasync,sync_file_range,msync"
TRACED_INSERTS = 20


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


def run_phase(
    contender: Contender, phase: str, sample: Sample, folder: Path, *arguments: str, wrapper: Sequence[str] = ()
) -> dict:
    """Run a phase in `vector_child.py` and return its results, with `others_cores`: cores used by other programs.

    Raises `StoreError` if the phase fails.
    """
    before, children_before, began = _machine_seconds(), _child_seconds(), time.perf_counter()
    command = [*wrapper, *_command(contender, phase, sample, folder, arguments)]
    finished = subprocess.run(command, env=_environment(contender), capture_output=True, text=True)
    elapsed_s = time.perf_counter() - began
    if finished.returncode:
        raise StoreError(
            f"{contender.name}: the phase {phase} exited with code {finished.returncode}, expected 0. Its last error "
            f"line: {(finished.stderr.strip() or '(none)').splitlines()[-1]}"
        )
    others = (_machine_seconds() - before) - (_child_seconds() - children_before)
    return {**json.loads(finished.stdout.splitlines()[-1]), "others_cores": max(0.0, others / elapsed_s)}


def kill_after_inserts(
    contender: Contender, sample: Sample, folder: Path, count: int, *arguments: str
) -> tuple[int, int]:
    """Kill a contender (SIGKILL) after `count` acknowledged inserts.

    Returns the number of acknowledged inserts and the number of those that a new process does not find.
    """
    command = _command(contender, "insert", sample, folder, ["--tell", "--count", str(count), *arguments])
    with subprocess.Popen(command, env=_environment(contender), stdout=subprocess.PIPE, text=True) as child:
        try:
            lines = iter(child.stdout.readline, "")
            rows_before = int(next(lines))
            acknowledged = sum(1 for _ in iter(lambda: next(lines), "done\n"))
        except (StopIteration, ValueError):
            raise StoreError(f"{contender.name} exited before it was killed. See its error above.") from None
        finally:
            child.kill()
    found = run_phase(contender, "count", sample, folder)["count"]
    return acknowledged, max(0, rows_before + acknowledged - found)


def syncs_per_insert(contender: Contender, sample: Sample, folder: Path) -> float | None:
    """Return the number of system calls per insert that sync to disk, counted by strace; None without strace."""
    if shutil.which("strace") is None:
        return None
    log = folder.parent / "syncs.txt"
    wrapper = ("strace", "-f", "-qq", "--seccomp-bpf", "-e", f"trace={SYNCS}", "-o", str(log))
    counted = []
    for inserts in (0, TRACED_INSERTS):
        run_phase(contender, "insert", sample, folder, "--count", str(inserts), wrapper=wrapper)
        lines = log.read_text(encoding="utf-8").splitlines()
        counted.append(sum("sync" in line and "resumed>" not in line for line in lines))
    return (counted[1] - counted[0]) / TRACED_INSERTS


def bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _command(
    contender: Contender, phase: str, sample: Sample, folder: Path, arguments: Sequence[str]
) -> tuple[str, ...]:
    where = ("--sample", str(sample.folder), "--folder", str(folder))
    return (
        sys.executable,
        str(CHILD),
        phase,
        "--store",
        contender.store,
        "--layout",
        contender.layout,
        *where,
        *arguments,
    )


def _environment(contender: Contender) -> dict[str, str]:
    """Return an environment with one thread, this checkout's package and, for a peer, its installation folder."""
    paths = [] if contender.store == "ours" else [str(FOLDER)]
    paths += [str(Path(bankllm.__file__).parents[1])]
    return os.environ | dict.fromkeys(ONE_THREAD, "1") | {"PYTHONPATH": os.pathsep.join(paths)}


def _machine_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq + times.steal


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
