"""Denormal numbers are zero inside the block, in its thread and those that it starts, and nowhere else."""

import platform
import sys
import threading

import numpy as np
import pytest

from bankllm.model.denormals import flushed

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="does nothing on this system"
)
SMALLEST_NORMAL = 1.1754943508222875e-38
TINY = np.full(64, SMALLEST_NORMAL, np.float32)


def keeps_denormals() -> bool:
    return bool((TINY * np.float32(0.5)).any())


def test_only_the_block_flushes() -> None:
    assert keeps_denormals()
    with flushed():
        assert not keeps_denormals()
        with flushed():
            assert not keeps_denormals()
        assert not keeps_denormals()
    assert keeps_denormals()


def test_an_error_ends_the_block() -> None:
    with pytest.raises(ZeroDivisionError), flushed():
        _ = 1 / 0
    assert keeps_denormals()


def test_a_running_thread_is_let_be_and_a_new_one_inherits() -> None:
    seen: list[bool] = []
    go = threading.Event()

    def running() -> None:
        go.wait(30)
        seen.append(keeps_denormals())

    before = threading.Thread(target=running)
    before.start()
    with flushed():
        go.set()
        before.join()
        started = threading.Thread(target=lambda: seen.append(keeps_denormals()))
        started.start()
        started.join()
    assert seen == [True, False]
