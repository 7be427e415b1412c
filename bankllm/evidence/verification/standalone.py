"""Build `verify.pyz`, which every run contains: the modules of `bankllm verify` in a zip file that Python can run.

    python3 outputs/<run-id>/verify.pyz [RUN_DIR] [--json]

The file holds the unchanged source of `run_checks` and of the modules that it imports, which need only the standard
library. The same source gives the same bytes on every machine. Use only a file that you trust, or read it (`unzip`).
"""

import io
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MAIN = '''"""Verify the run in the folder of this file, or in RUN_DIR. Needs only Python 3.11 or newer."""

import sys
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit("verify.pyz needs Python 3.11 or newer.")

from bankllm.evidence.verification.run_checks import main

sys.exit(main(Path(sys.argv[0]).resolve().parent, sys.argv[1:]))
'''
LIST_MODULES = """
import sys
sys.path.append(sys.argv[1])
from bankllm.evidence.raw_files import STATISTICS
from bankllm.evidence.verification import run_checks
list(STATISTICS)
print(*(module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "bankllm"), sep="\\n")
"""
"""Prints the files of the verifier. A registry imports its parts at the first look at them."""


@cache
def standalone() -> bytes:
    # -I -S: other packages cannot be imported, as on the machine of a reader
    command = [sys.executable, "-I", "-S", "-c", LIST_MODULES, str(ROOT)]
    files = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    sources = {Path(file).relative_to(ROOT).as_posix(): Path(file).read_bytes() for file in files}
    buffer = io.BytesIO(b"#!/usr/bin/env python3\n")
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # compressors differ between machines
        for name, source in sorted({"__main__.py": MAIN.encode(), **sources}.items()):
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, source)
    return buffer.getvalue()
