"""A sealed run."""

from pathlib import Path

import pytest

from tests.support.sealed_run import sealed_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sealed_run(tmp_path / "runs" / "one")
