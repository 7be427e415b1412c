"""The stores that the vector benchmarks compare, and how one of them is filled, asked, and killed in its own process.

faiss = CONTENDERS[2]
run_phase(faiss, "fill", sample, folder)["rows_per_s"]
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
"""Apart from our environment, which the lock pins."""
VERSIONS = "faiss-cpu==1.15.1 usearch==2.26.6 chromadb==1.5.9 lancedb==0.40.0"
INSTALL = f"pip install --target {FOLDER} -c requirements.lock {VERSIONS}"
CHILD = Path(__file__).parent / "peers" / "vector_child.py"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS")
SYNCS = "fsync,fdatasync,sync_file_range,msync"
TRACED_INSERTS = 20


@dataclass(frozen=True)
class Contender:
    """A store in one layout: everybody's rows in one partition (`whole`), or one partition a customer."""

    name: str
    store: str
    """As `vector_child.py` calls it."""
    layout: str
    package: str
    confines: bool = True
    """Whether a search can be confined to one customer in this layout."""
    keeps_log: bool = True
    """Whether the library keeps single inserts itself; elsewhere the file is written anew after each."""

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        found = metadata.distributions(name=self.package, path=[str(FOLDER), *sys.path])
        return next((distribution.version for distribution in found), None)


CONTENDERS = (
    Contender("bankllm, a namespace a customer", "ours", "customers", "bankllm"),
    Contender("bankllm, one namespace", "ours", "whole", "bankllm", confines=False),
    Contender("FAISS flat", "faiss", "whole", "faiss-cpu", keeps_log=False),
    Contender("FAISS flat, an index a customer", "faiss", "customers", "faiss-cpu", keeps_log=False),
    # Rather than hnswlib, whose last release (0.8.0 of 2023) has to be compiled: usearch ships wheels every month.
    Contender("usearch HNSW", "usearch", "whole", "usearch", confines=False, keeps_log=False),
    Contender("usearch HNSW, an index a customer", "usearch", "customers", "usearch", keeps_log=False),
    Contender("Chroma", "chroma", "whole", "chromadb"),
    Contender("Chroma, a collection a customer", "chroma", "customers", "chromadb"),
    Contender("LanceDB", "lance", "whole", "lancedb"),
)
FAISS_HNSW = Contender("FAISS HNSW", "faiss-hnsw", "whole", "faiss-cpu", confines=False, keeps_log=False)


def run_phase(
    contender: Contender, phase: str, sample: Sample, folder: Path, *arguments: str, wrapper: Sequence[str] = ()
) -> dict:
    """What `vector_child.py` tells of a phase, and `others_cores` that other programs took meanwhile.

    Raises `StoreError` where it fails.
    """
    before, own, began = _machine_seconds(), _child_seconds(), time.perf_counter()
    command = [*wrapper, *_command(contender, phase, sample, folder, arguments)]
    ended = subprocess.run(command, env=_environment(contender), capture_output=True, text=True)
    took = time.perf_counter() - began
    if ended.returncode:
        raise StoreError(
            f"{contender.name}: the phase {phase} ended with {ended.returncode}; expected 0. It says: "
            f"{(ended.stderr.strip() or 'nothing').splitlines()[-1]}"
        )
    others = (_machine_seconds() - before) - (_child_seconds() - own)
    return {**json.loads(ended.stdout.splitlines()[-1]), "others_cores": max(0.0, others / took)}


def kill_after_inserts(
    contender: Contender, sample: Sample, folder: Path, count: int, *arguments: str
) -> tuple[int, int]:
    """Kill it (SIGKILL) once `count` inserts are acknowledged: how many were, and how many a fresh process misses."""
    command = _command(contender, "insert", sample, folder, ["--tell", "--count", str(count), *arguments])
    with subprocess.Popen(command, env=_environment(contender), stdout=subprocess.PIPE, text=True) as child:
        try:
            told = iter(child.stdout.readline, "")
            had = int(next(told))
            acknowledged = sum(1 for _ in iter(lambda: next(told), "done\n"))
        except (StopIteration, ValueError):
            raise StoreError(f"{contender.name}: it ended before it was killed; its error stands above.") from None
        finally:
            child.kill()
    found = run_phase(contender, "count", sample, folder)["count"]
    return acknowledged, max(0, had + acknowledged - found)


def syncs_per_insert(contender: Contender, sample: Sample, folder: Path) -> float | None:
    """System calls that sync to disk, for each single insert, as strace counts them; None without strace."""
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
    """One thread, this checkout's package, and for a peer the folder it is installed in."""
    paths = [] if contender.store == "ours" else [str(FOLDER)]
    paths += [str(Path(bankllm.__file__).parents[1])]
    return os.environ | dict.fromkeys(ONE_THREAD, "1") | {"PYTHONPATH": os.pathsep.join(paths)}


def _machine_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq + times.steal


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
