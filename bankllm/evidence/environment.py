"""Describe the machine and the code of a measurement, without host name, user name and paths.

GPU data comes from `nvidia-smi`, because importing torch takes seconds.
"""

import contextlib
import csv
import os
import platform
import sqlite3
import subprocess
from pathlib import Path

import psutil

from bankllm import __version__, extras
from bankllm.settings import source_root
from bankllm.util.file_hash import sha256_file
from bankllm.util.processes import usable_cores

CGROUP = Path("/sys/fs/cgroup")  # version 2


def environment_info() -> dict[str, object]:
    """Describes this machine in JSON values; `cpu_limit` is in cores.

    A limit is None if there is none, the version of a package that is not installed, and `lock_sha256`, of
    `requirements.lock`, without bankllm's source tree.
    """
    system = platform.uname()
    source = source_root()
    lock = source / "requirements.lock" if source else None
    packages = [one for extra, names in extras.packages().items() if extra not in extras.DEVELOPING for one in names]
    os_name = platform.platform(terse=True)
    with contextlib.suppress(OSError, KeyError):  # not Linux
        os_name = platform.freedesktop_os_release()["PRETTY_NAME"]
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": usable_cores(),
        "cpu_limit": cpu_limit(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "memory_limit_gib": memory_limit_gib(),
        "gpus": gpus(),
        "os": os_name,
        "kernel": f"{system.system} {system.release}",
        "uname": f"{system.system} {system.release} {system.version} {system.machine}",
        "machine": system.machine,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "libraries": {"bankllm": __version__, **{name: extras.installed_version(name) for name in packages}},
        "lock_sha256": sha256_file(lock) if lock and lock.is_file() else None,
    }


def git_state() -> tuple[str | None, bool | None]:
    """The commit of bankllm's checkout, and whether the working tree differs from it.

    (None, None) without a checkout, such as for an installed wheel, or a source archive inside another repository.
    """
    source = source_root()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=source, env=plain, capture_output=True, text=True, check=True).stdout

    try:
        if source is None or Path(git("rev-parse", "--show-toplevel").rstrip("\n")).resolve() != source:
            return None, None
        return git("rev-parse", "HEAD").strip(), bool(git("status", "--porcelain").strip())
    except (OSError, subprocess.CalledProcessError):
        return None, None


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the CPU model; without `/proc/cpuinfo`, the processor or machine type."""
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def cpu_limit(cgroup: Path = CGROUP) -> float | None:
    """Returns the CPU limit of the control group in cores; None if there is no limit."""
    quota, period, *_ = (*_words(cgroup / "cpu.max"), "max", "max")
    return None if quota == "max" else round(int(quota) / int(period), 2)


def memory_limit_gib(cgroup: Path = CGROUP) -> float | None:
    """Returns the memory limit of the control group in GiB; None if there is no limit."""
    (limit,) = _words(cgroup / "memory.max") or ["max"]
    return None if limit == "max" else round(int(limit) / 2**30, 1)


def gpus() -> list[dict[str, object]]:
    """Returns name, memory in GiB (None if unknown) and driver of each NVIDIA GPU; empty without `nvidia-smi`."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [
        {"name": name, "memory_gib": round(int(mib) / 1024, 1) if mib.isdecimal() else None, "driver": driver}
        for name, mib, driver in csv.reader(text.splitlines(), skipinitialspace=True)
    ]


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
