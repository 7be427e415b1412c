"""Faults of disk and file (full disk, missing permissions, truncation, corruption): an error, and no lost rows.

Resource limits and user ids apply to a whole process, so these faults are tested in a child process.
"""

import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import StoreError
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.killed import run_until
from tests.support.store_model import DIM, EMBEDDER, MODEL, expected_texts, is_intact, texts

FULL = """
import resource
from contextlib import closing
from bankllm.errors import StoreError
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import DIM, EMBEDDER, row, texts
with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + FREE, hard))
    try:
        store.upsert("CUST001", [row(f"big{i}", i) for i in range(10_000)])
    except StoreError as error:
        print(error)
    print(store.count(), len(texts(store, "CUST001")))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    store.upsert("CUST001", [row("after", 500)])
    print(store.count())
"""


@pytest.mark.parametrize("free_bytes", [-4096, 0, 4096, 100_000])
def test_a_full_disk_fails_only_the_write(filled: Path, free_bytes: int) -> None:
    child = run_until(filled, FULL.replace("FREE", str(free_bytes)))
    assert child.returncode == 0, child.stderr
    error, during, after = child.stdout.splitlines()
    assert "Data stored before is unchanged. " in error
    assert "disk" in error.split("unchanged. ")[1]
    assert (during, after) == ("29 29", "30")
    with closing(SQLiteStore(filled, DIM, EMBEDDER)) as store:
        assert texts(store, "CUST001") == expected_texts(MODEL | {"after": 500})
    assert is_intact(filled)


READ_ONLY = """
from bankllm.errors import StoreError
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import DIM, EMBEDDER, row
os.setgid(65534), os.setuid(65534)
try:
    SQLiteStore(path, DIM, EMBEDDER).upsert("CUST001", [row("a", 1)])
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; others run test_a_read_only_file")
@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o777), (0o666, 0o555), (0o000, 0o777)])
def test_a_user_without_write_permission_gets_an_error(filled: Path, file_mode: int, folder_mode: int) -> None:
    before = filled.read_bytes()
    for folder in list(filled.parents)[:3]:  # so that the other user can reach the file
        folder.chmod(0o755)
    filled.parent.chmod(folder_mode)
    filled.chmod(file_mode)
    child = run_until(filled, READ_ONLY)
    filled.parent.chmod(0o777)
    assert child.returncode == 0, child.stderr
    assert any(
        advice in child.stdout for advice in ("change the permissions", "that exists and is writable", "user can write")
    )
    assert filled.read_bytes() == before


@pytest.mark.parametrize("keep", [0, 100, 4096, 0.5, -4096, -1])
def test_a_truncated_file_is_rejected_and_an_empty_one_is_new(filled: Path, keep: float) -> None:
    whole = filled.read_bytes()
    size = int(keep * len(whole)) if isinstance(keep, float) else keep % len(whole)
    filled.write_bytes(whole[:size])
    if keep == 0:  # SQLite and the store treat an empty file as a new one
        with closing(SQLiteStore(filled, DIM, EMBEDDER)) as store:
            assert store.count() == 0
        return
    with pytest.raises(StoreError, match=r"restore a backup|move this file away"):
        SQLiteStore(filled, DIM, EMBEDDER).search("CUST001", np.ones(DIM), 1)
    assert filled.read_bytes() == whole[:size]
    filled.write_bytes(whole)
    with closing(SQLiteStore(filled, DIM, EMBEDDER)) as store:
        assert texts(store, "CUST001") == expected_texts(MODEL)


def test_a_corrupt_page_is_an_error_and_other_customers_are_readable(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        for customer in ("CUST001", "CUST002"):
            store.upsert(customer, [Row(str(i), customer * 100, np.ones(DIM)) for i in range(100)])
    page = path.read_bytes().index(b"CUST001" * 100) // 4096 * 4096
    with path.open("r+b") as file:
        file.seek(page)
        file.write(b"\xff" * 4096)
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        with pytest.raises(StoreError, match=r"malformed.*restore a backup"):
            store.search("CUST001", np.ones(DIM), 1000)
        assert len(store.search("CUST002", np.ones(DIM), 1000)) == 100
