"""Make `verify.py`, which every run carries: the verifier in one readable file that needs Python alone.

It is made of the very modules that `bankllm verify` uses, text for text, so that there is one verifier.
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
IMPORT = re.compile(r"^(?:from|import) ([\w.]+)", re.MULTILINE)
HEAD = '''#!/usr/bin/env python3
"""Check this run with Python 3.11 or newer and nothing else: python3 verify.py [--json]

Recomputes every record from its raw file, checks every file's sha256, and compares every number that the pages and
notebooks show with its record. Exit code 0: all holds; 1: something does not; 2: wrong usage.

Below stand, text for text, the modules of bankllm that `bankllm verify` uses. A hash is no signature: whoever can
replace this file, too, can make it say anything. Take it from a run or an installation that you trust, or read it.
"""

import os
import sys

if sys.version_info < (3, 11):
    sys.exit("verify.py needs Python 3.11 or newer.")
if __name__ == "__main__":  # a csv.py that somebody put beside this file is evidence, and no module
    HERE = os.path.dirname(os.path.realpath(__file__))
    sys.path = [place for place in sys.path if os.path.realpath(place) != HERE]

import json
import types
from pathlib import Path

SOURCES = {}
'''
TAIL = '''

def load():
    """Make the modules above, in their order; returns the last one."""
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
    """The text of `verify.py`. Raises `RunError` if a module needs more than the standard library."""
    sections = [HEAD]
    for module in _in_order(ENTRY):
        name = module.rpartition(".")[2]
        source = re.sub(r"\bbankllm\.(?:\w+\.)*(?=\w+ import\b)", "bankllm_check.", _source(module))
        quoted = f"r'''{source}'''" if "'''" not in source and not source.endswith("\\") else repr(source)
        sections.append(f"\n# {'-' * 20} {module} {'-' * 20}\nSOURCES[{name!r}] = {quoted}\n")
    schemas = json.dumps(load_schemas(), indent=1)
    return "".join([*sections, f"\nSCHEMAS = json.loads(r'''\n{schemas}\n''')\n", TAIL])


def _in_order(entry: str) -> list[str]:
    """The module and all of bankllm's that it imports, each after those that it needs."""
    done: list[str] = []

    def visit(module: str) -> None:
        if module in done:
            return
        for name in IMPORT.findall(_source(module)):
            if name.startswith("bankllm."):
                visit(name)
            elif name.partition(".")[0] not in sys.stdlib_module_names:
                raise RunError(f"{module} imports {name}; the standalone verifier has the standard library alone.")
        done.append(module)

    visit(entry)
    return done


def _source(module: str) -> str:
    return PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
