"""Denormal numbers are flushed in the calling thread, in torch's worker threads, and in the backward pass."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from bankllm.model.denormals import PARALLEL, flush_denormals

if not torch.set_flush_denormal(False):
    pytest.skip("this processor has no flag for denormal numbers", allow_module_level=True)


def kept(threads: int = 2) -> int:
    """How many of the denormal numbers that `threads` threads multiply by one stay."""
    smallest = torch.ones(threads * PARALLEL, dtype=torch.int32).view(torch.float32)
    return int((smallest * 1).view(torch.int32).count_nonzero())


def test_in_threads_that_run_before_and_after_the_first_call() -> None:
    with ThreadPoolExecutor(1) as early:
        early.submit(torch.set_flush_denormal, False).result()
        assert early.submit(kept).result()
        early.submit(flush_denormals).result()
        assert early.submit(kept).result() == 0
    flush_denormals()
    assert kept() == 0
    with ThreadPoolExecutor(1) as late:
        assert late.submit(kept).result() == 0


def test_in_worker_threads_that_torch_has_started_before() -> None:
    code = (
        "import torch; from bankllm.model.denormals import flush_denormals;"
        "from tests.model.test_denormals import kept;"
        "torch.set_flush_denormal(False); torch.set_num_threads(2); before = kept();"
        "torch.set_flush_denormal(True); only_this_thread = kept();"
        "flush_denormals(); print(before, only_this_thread, kept(), torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(2 * PARALLEL), str(PARALLEL), "0", "2"]


def test_in_the_backward_pass() -> None:
    flush_denormals()
    weights = torch.full((2 * PARALLEL,), 1e-30, requires_grad=True)
    (weights * torch.full_like(weights, 1e-30) * 1e-9).sum().backward()
    assert weights.grad is not None
    assert int(weights.grad.view(torch.int32).count_nonzero()) == 0
