"""Load models without output that indicates no problem."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Suppress output that indicates no problem while models load: the bar over the weights, a note of bitsandbytes
    about an optional kernel, deprecation warnings inside PEFT and TRL."""
    from transformers.utils import logging as transformers_logging

    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_not_about_kernels)
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing` is deprecated", FutureWarning)
            yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _not_about_kernels(record: logging.LogRecord) -> bool:
    # Without the optional package `kernels`, bitsandbytes uses its own code for one CPU operation, and logs this.
    return "gemm_4bit_forward" not in str(record.msg)
