"""A run that bob repeated, and keys."""

from pathlib import Path

import pytest

from bankllm.evidence.attestation.signing import new_key
from bankllm.evidence.reproduce import reproduction_of
from bankllm.evidence.statements import statement_about
from tests.support.sealed_run import sealed_run


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of alice, bob and mallory."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("alice", "bob", "mallory"):
        new_key(folder / f"{name}.key")
    return folder


@pytest.fixture(scope="session")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed_run(tmp_path_factory.mktemp("repeated") / "20260102T090000Z-quick", slower=1.2)


@pytest.fixture
def statement(folder: Path, repeated: Path) -> bytes:
    """What bob found when they repeated the run."""
    return statement_about(folder, reproduction_of(folder, repeated)).encode()
