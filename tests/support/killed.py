"""Run code on a store's file in another process, which is killed at a given SQL statement."""

import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

_WATCH = """
import os, signal, sqlite3, sys
from pathlib import Path
path, moment, times, seen, connect = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 0, sqlite3.connect
def watch(sql):
    global seen
    seen += sql.startswith(moment)
    if seen == times:
        os.kill(os.getpid(), signal.SIGKILL)
def watched(*arguments, **options):
    db = connect(*arguments, **options)
    db.set_trace_callback(watch)
    return db
sqlite3.connect = watched
"""


def run_until(path: Path, code: str, moment: str = "", times: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run `code`, which may use `path`, until the `times`-th statement that starts with `moment`; 0: to the end."""
    command = [sys.executable, "-c", _WATCH + code, str(path), moment, str(times)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
