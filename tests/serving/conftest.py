"""Fixtures of the serving tests."""

from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from bankllm.assistant.engine import ChatEngine
from bankllm.loadtest.server_process import ServerProcess
from tests.support.chat import BALANCE, fake_engine
from tests.support.live_server import CHAT, customer, guarded, logged


@pytest.fixture
def engine() -> Iterator[ChatEngine]:
    with closing(fake_engine()) as made:
        yield made


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client of CUST001 at `server`. After the test, the server must still answer a chat."""
    with customer(server) as made:
        yield made
        after = made.post(CHAT, json=BALANCE)
        assert after.status_code == 200
        assert "£4,907.60" in after.json()["reply"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with tokens and without a rate limit, for all modules. At the end its log must contain no errors."""
    folder = tmp_path_factory.mktemp("server")
    with guarded(folder) as running:
        yield running
    assert running.returncode == 0
    assert logged(folder / "server.log", "ERROR") == []
