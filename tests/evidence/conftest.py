"""A sealed run."""

import shutil
from pathlib import Path

import pytest

from tests.support.sealed_run import sealed_run


@pytest.fixture(scope="session")
def sealed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture
def folder(sealed_once: Path, tmp_path: Path) -> Path:
    """A copy of the sealed run, which a test may change."""
    return Path(shutil.copytree(sealed_once, tmp_path / "runs" / "one"))
