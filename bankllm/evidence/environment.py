"""Describe the machine of a measurement: hardware, operating system, limits and library versions.

The description contains no host name, user name or path. GPU data comes from `nvidia-smi`, because importing torch
takes seconds.
"""

import hashlib
import os
import platform
import shutil
import sqlite3
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from bankllm.settings import project_root
from bankllm.util.processes import usable_cores

LIBRARIES = (
    "accelerate",
    "bankllm",
    "bitsandbytes",
    "datasets",
    "fastapi",
    "httpx",
    "locust",
    "numpy",
    "onnxruntime",
    "pandas",
    "peft",
    "pinecone",
    "prometheus-client",
    "scikit-learn",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
    "uvicorn",
)
"""Packages whose versions can change a measured value."""
CGROUP = Path("/sys/fs/cgroup")
"""Root of the Linux control groups, versions 1 and 2."""


def environment_info() -> dict[str, object]:
    """Describes this machine in JSON values.

    `memory_gib` and `memory_limit_gib` are in GiB, `cpu_limit` is in cores. A limit is None if there is none.
    """
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": usable_cores(),
        "cpu_limit": cpu_limit(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "memory_limit_gib": memory_limit_gib(),
        "gpus": gpus(),
        "os": os_name(),
        "kernel": f"{platform.system()} {platform.release()}",
        "uname": uname(),
        "machine": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "libraries": {name: installed(name) for name in LIBRARIES},
        "lock_sha256": lock_sha256(),
    }


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the CPU model name from `/proc/cpuinfo`; without that file, the processor or machine type."""
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def cpu_limit(cgroup: Path = CGROUP) -> float | None:
    """Returns the CPU limit of the control group (version 2 or 1) in cores; None if there is no limit."""
    words = _words(cgroup / "cpu.max") or [
        *_words(cgroup / "cpu/cpu.cfs_quota_us"),
        *_words(cgroup / "cpu/cpu.cfs_period_us"),
    ]
    if len(words) != 2 or words[0] in ("max", "-1"):
        return None
    return round(int(words[0]) / int(words[1]), 2)


def memory_limit_gib(cgroup: Path = CGROUP) -> float | None:
    """Returns the memory limit of the control group (version 2 or 1) in GiB; None if there is no limit."""
    limit = "".join(_words(cgroup / "memory.max") or _words(cgroup / "memory/memory.limit_in_bytes"))
    # Version 1 has no value for "unlimited": it reports the largest multiple of the page size below 2**63.
    if limit in ("", "max") or int(limit) >= 2**62:
        return None
    return round(int(limit) / 2**30, 1)


def gpus() -> list[dict[str, object]]:
    """Returns name, memory in GiB and driver version of each NVIDIA GPU.

    Empty if `nvidia-smi` is missing or fails. The memory is None if `nvidia-smi` does not report it.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    devices: list[dict[str, object]] = []
    for line in text.splitlines():
        name, mebibytes, driver = (field.strip() for field in line.rsplit(",", 2))
        memory = round(int(mebibytes) / 1024, 1) if mebibytes.isdecimal() else None
        devices.append({"name": name, "memory_gib": memory, "driver": driver})
    return devices


def os_name() -> str:
    """Returns the name of the Linux distribution; on other systems, the short platform name."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)


def uname() -> str:
    """Returns `uname -srvm`: system, release, version and machine, without the host name."""
    names = platform.uname()
    return f"{names.system} {names.release} {names.version} {names.machine}"


def installed(package: str) -> str | None:
    """Returns the version of an installed package without importing it; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def lock_sha256() -> str | None:
    """Returns the sha256 of `requirements.lock`; None outside a source checkout."""
    lock = project_root() / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
