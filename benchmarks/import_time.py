"""Time of `import bankllm` in a new interpreter, and time of the interpreter's start.

.venv/bin/python benchmarks/import_time.py    # exits with 1 above the limit
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 11
LIMIT_S = 0.2

probe = "import time; t = time.perf_counter(); import bankllm; print(time.perf_counter() - t)"
inside, whole, bare = [], [], []
for _ in range(ROUNDS):
    began = time.perf_counter()
    inside.append(float(subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True).stdout))
    whole.append(time.perf_counter() - began)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    bare.append(time.perf_counter() - began)

median = statistics.median(inside)
print(f"import bankllm: median {1000 * median:.1f} ms of {ROUNDS} (limit {1000 * LIMIT_S:.0f} ms)")
whole_ms, bare_ms = (1000 * statistics.median(times) for times in (whole, bare))
print(f"whole process:  median {whole_ms:.1f} ms; without the import {bare_ms:.1f} ms")
sys.exit(median > LIMIT_S)
