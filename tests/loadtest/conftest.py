"""Servers for the tests of load drivers."""

from collections.abc import Iterator

import pytest

from bankllm.loadtest.server_process import ServerProcess
from tests.support.loadtest_app import APP
from tests.support.null_endpoint import ENDPOINT


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    """A fake `bankllm serve` that remembers its requests (`loadtest_app.seen`)."""
    with ServerProcess(program=APP) as process:
        yield process


@pytest.fixture
def endpoint() -> Iterator[ServerProcess]:
    """An endpoint that answers every request at once and counts them (`/seen`)."""
    with ServerProcess(program=ENDPOINT) as process:
        yield process
