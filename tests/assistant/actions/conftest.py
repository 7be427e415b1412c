"""The demo bank of 29 November 2026 in a file, and a desk for its actions."""

from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from bankllm.assistant.actions.proposals import ActionDesk
from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.assistant.bank.ledger import open_bank
from bankllm.settings import Settings

TODAY = Settings(today=date(2026, 11, 29))


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that no test changes."""
    file = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    open_bank(f"demo:{file}", TODAY).close()
    return file


@pytest.fixture
def bank(ledger: Path, tmp_path: Path) -> Iterator[SQLiteBank]:
    copy = tmp_path / "ledger.sqlite"
    copy.write_bytes(ledger.read_bytes())
    with closing(open_bank(f"sqlite:{copy}", TODAY)) as opened:
        assert isinstance(opened, SQLiteBank)
        yield opened


@pytest.fixture
def desk(bank: SQLiteBank) -> ActionDesk:
    return ActionDesk(bank, TODAY)
