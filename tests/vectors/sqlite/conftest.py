"""Fixtures of the SQLite store's tests."""

from contextlib import closing
from pathlib import Path

import pytest

from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import DIM, EMBEDDER, MODEL, row


@pytest.fixture
def filled(path: Path) -> Path:
    """A file with the rows of `MODEL`."""
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [row(id_, seed) for id_, seed in MODEL.items()])
    return path
