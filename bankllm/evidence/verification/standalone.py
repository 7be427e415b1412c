"""Generate `verify.py`, which every run contains: the verifier in one readable file that needs only Python.

The file holds the source of the modules that `bankllm verify` uses, unchanged except for imports, so both verifiers run
the same code.
"""

import json
import re
import sys
from functools import cache
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.verification.schemas import load_schemas

PACKAGE = Path(__file__).resolve().parents[2]
ENTRY = "bankllm.evidence.verification.run_checks"
"""The module whose `main` the file runs."""
IMPORT = re.compile(r"^(?:from|import) ([\w.]+)", re.MULTILINE)
HEAD = '''#!/usr/bin/env python3
"""Verify this run with only Python 3.11 or newer: python3 verify.py [--json]

Recomputes every record from its raw file, checks the sha256 of every file, and compares every number on the pages and
in the notebooks with its record. Exit code 0: the run verifies; 1: it does not; 2: wrong usage.

The source of the bankllm modules that `bankllm verify` uses follows, unchanged except for imports. A hash is not a
signature: anyone who can replace this file can make it report anything. Use a copy from a run or an installation that
you trust, or read it.
"""

import os
import sys

if sys.version_info < (3, 11):
    sys.exit("verify.py needs Python 3.11 or newer.")
if __name__ == "__main__":  # do not import a csv.py that was placed next to this file
    HERE = os.path.dirname(os.path.realpath(__file__))
    sys.path = [entry for entry in sys.path if os.path.realpath(entry) != HERE]

import json
import types
from pathlib import Path

SOURCES = {}
'''
TAIL = '''

def load():
    """Loads the modules above in order and returns the last one."""
    package = types.ModuleType("bankllm_check")
    package.__path__ = []
    sys.modules["bankllm_check"] = package
    for name, source in SOURCES.items():
        module = types.ModuleType(f"bankllm_check.{name}")
        sys.modules[module.__name__] = module
        setattr(package, name, module)
        exec(compile(source, f"verify.py: {name}", "exec"), module.__dict__)
    return module


run_checks = load()
if __name__ == "__main__":
    sys.exit(run_checks.main(Path(__file__).resolve().parent, SCHEMAS, sys.argv[1:]))
'''


@cache
def standalone() -> str:
    """Returns the text of `verify.py`. Raises `RunError` if a module imports more than the standard library."""
    sections = [HEAD]
    for module in _dependency_order(ENTRY):
        name = module.rpartition(".")[2]
        source = re.sub(r"\bbankllm\.(?:\w+\.)*(?=\w+ import\b)", "bankllm_check.", _source(module))
        quoted = f"r'''{source}'''" if "'''" not in source and not source.endswith("\\") else repr(source)
        sections.append(f"\n# {'-' * 20} {module} {'-' * 20}\nSOURCES[{name!r}] = {quoted}\n")
    schemas = json.dumps(load_schemas(), indent=1)
    return "".join([*sections, f"\nSCHEMAS = json.loads(r'''\n{schemas}\n''')\n", TAIL])


def _dependency_order(entry: str) -> list[str]:
    """Returns a module and all bankllm modules that it imports, each after its own imports."""
    ordered: list[str] = []

    def visit(module: str) -> None:
        if module in ordered:
            return
        for name in IMPORT.findall(_source(module)):
            if name.startswith("bankllm."):
                visit(name)
            elif name.partition(".")[0] not in sys.stdlib_module_names:
                raise RunError(f"{module} imports {name}. The standalone verifier has only the standard library.")
        ordered.append(module)

    visit(entry)
    return ordered


def _source(module: str) -> str:
    return PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
