"""Process-wide settings of a server."""

import json
import subprocess
import sys

CHILD = """
import gc, json, sys
from bankllm.serving.tuning import SWITCH_S, freeze_gc, tune_process
from threadpoolctl import threadpool_info
tune_process()
import numpy as np
np.ones((600, 600)) @ np.ones(600)
blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas" and "numpy" in pool["filepath"]]
freeze_gc()
print(json.dumps([blas, sys.getswitchinterval() == SWITCH_S, len(gc.get_objects()), gc.isenabled()]))
"""


def test_tune_process_and_freeze_gc() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    blas, switched, seen, enabled = json.loads(done.stdout)
    assert set(blas) == {1}, "a search uses one core"
    assert switched
    assert seen < 1000, "loaded objects are excluded from garbage collection"
    assert enabled
