"""Build `verify.pyz`, which every run contains: the modules of `bankllm verify` in a zip file that Python can run.

    python3 outputs/<run-id>/verify.pyz [RUN_DIR] [--json]

The file holds the unchanged source of `run_checks` and of the modules that it imports, which need only the standard
library. The same source gives the same bytes on every machine. A hash is not a signature: anyone who can replace the
file can make it report anything, so use one from a run or an installation that you trust, or read it (`unzip`).
"""

import ast
import io
import re
import sys
import zipfile
from functools import cache
from pathlib import Path

from bankllm.errors import RunError

ROOT = Path(__file__).resolve().parents[3]
ENTRY = "bankllm.evidence.verification.run_checks"
PACKAGE_NAME = re.compile(r"bankllm(\.\w+)+")
MAIN = f'''"""Verify the run in the folder of this file, or in RUN_DIR. Needs only Python 3.11 or newer."""

import sys
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit("verify.pyz needs Python 3.11 or newer.")

from {ENTRY} import main

sys.exit(main(Path(sys.argv[0]).resolve().parent, sys.argv[1:]))
'''


@cache
def standalone() -> bytes:
    """Returns the content of `verify.pyz`. Raises `RunError` if a module imports more than the standard library."""
    sources = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in modules()}
    buffer = io.BytesIO(b"#!/usr/bin/env python3\n")
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # compressors differ between machines
        for name, source in sorted({"__main__.py": MAIN.encode(), **sources}.items()):
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, source)
    return buffer.getvalue()


def modules() -> set[Path]:
    """Returns the files of `run_checks`, of all bankllm modules that it imports, and of their packages.

    An argument that names a package, such as the folder of a `Registry`, stands for every module of the package.
    """
    found: set[Path] = set()
    pending = [ENTRY]
    while pending:
        name = pending.pop()
        path = _file(name)
        if path in found:
            continue
        found.add(path)
        pending.append(name.rpartition(".")[0] or name)
        for node in ast.parse(path.read_bytes()).body:
            pending += _named(node, name)
    return found


def _named(node: ast.stmt, importer: str) -> list[str]:
    """Returns the bankllm modules that a top-level statement of the module `importer` names."""
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [name if _file(name).is_file() else str(node.module) for name in names]
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        arguments = [argument for call in ast.walk(node) if isinstance(call, ast.Call) for argument in call.args]
        texts = [argument.value for argument in arguments if isinstance(argument, ast.Constant)]
        folders = [_file(text) for text in texts if isinstance(text, str) and PACKAGE_NAME.fullmatch(text)]
        packages = [path.parent for path in folders if path.name == "__init__.py"]
        return [".".join(path.relative_to(ROOT).with_suffix("").parts) for p in packages for path in p.glob("*.py")]
    for name in names:
        if name.partition(".")[0] not in {"bankllm", *sys.stdlib_module_names}:
            raise RunError(f"{importer} imports {name}. The standalone verifier has only the standard library.")
    return [name for name in names if name.startswith("bankllm.")]


def _file(name: str) -> Path:
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
