"""What a serving process sets for all of itself."""

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
print(json.dumps({
    "blas": blas, "switch": sys.getswitchinterval() == SWITCH_S, "seen": len(gc.get_objects()), "on": gc.isenabled(),
}))
"""


def test_a_process_is_tuned() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["blas"]
    assert set(said["blas"]) == {1}, "a search takes one core"
    assert said["switch"]
    assert said["seen"] < 1000, "what was loaded is out of the collector's sight"
    assert said["on"]
