"""Fixtures of the vector tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bankllm.vectors.sqlite import file
from bankllm.vectors.sqlite import store as store_module
from tests.support.pinecone_server import PineconeServer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a store's file that does not exist yet."""
    return tmp_path / "memory.sqlite"


@pytest.fixture(params=["truncate", "wal"])
def journal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test in both journal modes, including the one that this SQLite version would not use."""
    for module in (file, store_module):
        monkeypatch.setattr(module, "wal_is_safe", lambda version: request.param == "wal")
    return request.param


@pytest.fixture
def server() -> Iterator[PineconeServer]:
    with PineconeServer() as server:
        yield server
