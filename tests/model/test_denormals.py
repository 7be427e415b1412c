"""Denormal numbers are flushed to zero only inside the block, in its thread and in threads started there."""

import platform
import sys
import threading

import numpy as np
import pytest

from bankllm.model.denormals import flush_denormals

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="does nothing on this system"
)
SMALLEST_NORMAL = 1.1754943508222875e-38
TINY = np.full(64, SMALLEST_NORMAL, np.float32)


def keeps_denormals() -> bool:
    return bool((TINY * np.float32(0.5)).any())


def test_denormals_are_flushed_only_inside_the_block() -> None:
    assert keeps_denormals()
    with flush_denormals():
        assert not keeps_denormals()
        with flush_denormals():
            assert not keeps_denormals()
        assert not keeps_denormals()
    assert keeps_denormals()


def test_an_error_in_the_block_restores_the_setting() -> None:
    with pytest.raises(ZeroDivisionError), flush_denormals():
        _ = 1 / 0
    assert keeps_denormals()


def test_a_running_thread_is_not_changed_and_a_new_thread_inherits_the_setting() -> None:
    seen: list[bool] = []
    go = threading.Event()

    def running() -> None:
        go.wait(30)
        seen.append(keeps_denormals())

    before = threading.Thread(target=running)
    before.start()
    with flush_denormals():
        go.set()
        before.join()
        started = threading.Thread(target=lambda: seen.append(keeps_denormals()))
        started.start()
        started.join()
    assert seen == [True, False]
