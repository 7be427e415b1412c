"""What a serving process sets for all of itself."""

import json
import subprocess
import sys

CHILD = """
import json, sys
from bankllm.serving.tuning import SWITCH_S, tune_process
from threadpoolctl import threadpool_info
tune_process()
import numpy as np
np.ones((600, 600)) @ np.ones(600)
blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas" and "numpy" in pool["filepath"]]
print(json.dumps({"blas": blas, "switch": sys.getswitchinterval() == SWITCH_S}))
"""


def test_a_search_takes_one_core() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["blas"]
    assert set(said["blas"]) == {1}
    assert said["switch"]
