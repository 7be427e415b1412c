"""The extras of bankllm: which packages belong to each, and which extra to install for a missing package.

`pyproject.toml` defines the extras; this module reads them from the metadata of the installed bankllm.
"""

import contextlib
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version

from bankllm.errors import UsageError

DEVELOPING = ("dev", "docs", "peers")
"""Extras that no command needs."""
OTHER_NAMES = {
    "IPython": "ipython",
    "bs4": "beautifulsoup4",
    "markdown_it": "markdown-it-py",
    "PIL": "pillow",
    "dateutil": "python-dateutil",
    "jwt": "pyjwt",
    "mlflow": "mlflow-skinny",
    "pythonjsonlogger": "python-json-logger",
    "sklearn": "scikit-learn",
    "stdnum": "python-stdnum",
    "text_to_num": "text2num",
    "yaml": "pyyaml",
}
"""Module → package, where the names differ in more than `_` and `-`."""
COMMANDS = {
    "attest": "attest",
    "audit": "serve",
    "benchmark": "notebooks",
    "export": "serve",
    "index": "vectors",
    "loadtest": "load",
    "memory": "vectors",
    "report": "share",
    "reproduce": "notebooks",
    "run": "notebooks",
    "search": "vectors",
    "serve": "serve",
    "train": "train",
    "verify": "attest",
}
"""Command → the extra with everything that it needs."""


class PackageMissing(UsageError, ModuleNotFoundError):
    """A package is not installed; the message names the extra to install."""


@cache
def packages() -> dict[str, list[str]]:
    """Extra → its packages, including those of the extras that it contains; "" → the mandatory packages.

    Empty if bankllm is not installed.
    """
    found: dict[str, list[str]] = {}
    with contextlib.suppress(PackageNotFoundError):
        for line in requires("bankllm") or ():
            extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
            found.setdefault(extra[1] if extra else "", []).append(re.split(r"[^\w.-]", line)[0])
    return found


def package_of(module: str) -> str:
    """The package that contains a module."""
    top = module.partition(".")[0]
    return OTHER_NAMES.get(top, top).replace("_", "-").lower()


def not_installed(extra: str) -> list[str]:
    """The packages of an extra that are not installed."""
    return [name for name in packages()[extra] if installed_version(name) is None]


def explained(error: ModuleNotFoundError, command: str = "") -> ModuleNotFoundError:
    """Returns a `PackageMissing` that names an extra with the missing module: that of the command, else the smallest.

    An error about a module that is in no extra is returned unchanged.
    """
    package = package_of(error.name or "")
    sizes = {extra: len(names) for extra, names in packages().items() if package in names and extra not in DEVELOPING}
    if not sizes:
        return error
    wanted = COMMANDS.get(command, "")
    extra = wanted if wanted in sizes else min(sizes, key=sizes.__getitem__)
    target = f"bankllm[{extra}]" if extra else "bankllm"
    needs = f"`bankllm {command}` needs" if command else "This needs"
    return PackageMissing(
        f"{needs} the package {package}, which is not installed. Run: pip install '{target}'", name=error.name
    )


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
