"""A real server for all conversations, which understands messages by rules."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bankllm.assistant.bank.ledger import open_bank
from bankllm.settings import Settings
from benchmarks.conversation_bank import TODAY
from benchmarks.conversations import Desk, desk


@pytest.fixture(scope="session")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("conversations"), "rules") as running:
        yield running


@pytest.fixture(scope="session")
def demo_of_today(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger of the conversations. It must not be changed."""
    path = tmp_path_factory.mktemp("demo") / "ledger.sqlite"
    open_bank(f"demo:{path}", Settings(today=TODAY)).close()
    return path
