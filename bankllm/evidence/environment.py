"""The machine that a number was measured on: what changes the number, and nothing that names its owner.

No host name, user name or path is recorded. GPUs are asked of `nvidia-smi`, because importing torch takes seconds.
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
CGROUP = Path("/sys/fs/cgroup")


def environment_info() -> dict[str, object]:
    """Describe this machine in JSON values: `*_gib` in GiB, `cpu_limit` in cores; None where there is no limit."""
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
    """The processor's name as the kernel gives it."""
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def cpu_limit(cgroup: Path = CGROUP) -> float | None:
    """Cores that the control group may use, version 2 or 1; None without a limit."""
    words = _words(cgroup / "cpu.max") or [
        *_words(cgroup / "cpu/cpu.cfs_quota_us"),
        *_words(cgroup / "cpu/cpu.cfs_period_us"),
    ]
    if len(words) != 2 or words[0] in ("max", "-1"):
        return None
    return round(int(words[0]) / int(words[1]), 2)


def memory_limit_gib(cgroup: Path = CGROUP) -> float | None:
    """Memory that the control group may use, version 2 or 1; None without a limit."""
    limit = "".join(_words(cgroup / "memory.max") or _words(cgroup / "memory/memory.limit_in_bytes"))
    # Version 1 has no word for "unlimited": it gives the largest number of whole pages.
    if limit in ("", "max") or int(limit) >= 2**62:
        return None
    return round(int(limit) / 2**30, 1)


def gpus() -> list[dict[str, object]]:
    """NVIDIA GPUs with name, memory in GiB and driver; empty without `nvidia-smi` or where it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found: list[dict[str, object]] = []
    for line in text.splitlines():
        name, mebibytes, driver = (field.strip() for field in line.rsplit(",", 2))
        memory = round(int(mebibytes) / 1024, 1) if mebibytes.isdecimal() else None
        found.append({"name": name, "memory_gib": memory, "driver": driver})
    return found


def os_name() -> str:
    """The distribution on Linux, the platform's own words elsewhere."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)


def uname() -> str:
    """`uname -srvm`: kernel, release, build and machine, without the host's name."""
    found = platform.uname()
    return f"{found.system} {found.release} {found.version} {found.machine}"


def installed(package: str) -> str | None:
    """The installed version of a package, None where it is absent; nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def lock_sha256() -> str | None:
    """sha256 of `requirements.lock`; None outside a checkout."""
    lock = project_root() / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
