"""How long rows are kept, as the file says it: for stored and later rows, of one customer or of all, in any process."""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bankllm.vectors.rows import Row
from bankllm.vectors.service import VectorService, open_service
from bankllm.vectors.sqlite import matrices
from bankllm.vectors.sqlite.retention import lifetimes, overview
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.fake_embedder import fake_embedder
from tests.support.store_model import DIM, EMBEDDER, row, texts, vector_of

DAY = 86_400.0


@pytest.fixture
def service(path: Path) -> Iterator[VectorService]:
    with open_service(path, embedder=fake_embedder()) as opened:
        yield opened


def left_s(service: VectorService, namespace: str) -> list[float | None]:
    """How many seconds each row of a namespace is kept from now on, to the nearest ten."""
    rows = service.store.export(namespace)
    return [None if kept.expires_at is None else round(kept.expires_at - time.time(), -1) for kept in rows]


def test_the_files_time_to_live_holds_for_stored_and_later_rows_of_every_process(
    service: VectorService, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in ("CUST001", "CUST002"):
        service.for_user(user).store("before", "", "")
    service.store.retain("CUST001", 100)
    service.store.retain(None, 200)
    monkeypatch.setenv("BANKLLM_MEMORY_TTL_S", "50")  # gives way to the file's time to live
    with open_service(path, embedder=fake_embedder()) as other:
        for user in ("CUST001", "CUST002", "CUST003"):
            other.for_user(user).store("after", "", "")
        assert left_s(other, "CUST001") == [100, 100]
        assert left_s(other, "CUST002") == [200, 200]
        assert left_s(other, "CUST003") == [200]


@pytest.mark.parametrize("never", [math.inf, None])
def test_a_customer_can_be_kept_for_ever_while_others_expire(service: VectorService, never: float | None) -> None:
    service.store.retain(None, 100)
    service.for_user("CUST001").store("before", "", "")
    service.store.retain("CUST001", never)
    service.store.retain(None, 200)
    for user in ("CUST001", "CUST002"):
        service.for_user(user).store("after", "", "")
    assert left_s(service, "CUST001") == [None, None]
    assert left_s(service, "CUST002") == [200]


def test_the_customers_time_to_live_does_not_hold_for_collections(service: VectorService) -> None:
    service.collection("knowledge").add(["article"])
    service.collection("news").add(["yesterday"])
    service.store.retain(None, 100)
    service.store.retain("collection news", 200)
    for name in ("knowledge", "news"):
        service.collection(name).add(["later"])
    assert left_s(service, "collection knowledge") == [None, None]
    assert left_s(service, "collection news") == [200, 200]


def test_the_overview_counts_rows_by_the_time_they_expire(path: Path) -> None:
    now = time.time()
    after = [-DAY, -1, 60, 2 * DAY, 6 * DAY, 8 * DAY, 99 * DAY, None]
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        rows = [
            Row(f"m{n}", "text", vector_of(n), expires_at=None if age is None else now + age)
            for n, age in enumerate(after)
        ]
        store.upsert_many([("CUST001", rows), ("CUST002", rows[-1:])])
        store.retain("CUST003", 5)
        store.retain("CUST004", None)
        due, own = overview(path, None), overview(path, "CUST002")
        assert lifetimes(path) == [("CUST003", 5), ("CUST004", None)]
    counts = [(when, count) for when, count, _ in due]
    assert counts == [("expired", 2), ("in a day", 1), ("in a week", 2), ("in 30 days", 1), ("later", 1), ("never", 2)]
    assert all(first > "20" for when, _, first in due if when != "never")
    assert own == [("never", 1, "")]


def test_the_vectors_of_a_namespace_that_another_process_deleted_leave_memory_at_the_next_sweep(
    path: Path, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrices, "CHECKED", 1)
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store, closing(SQLiteStore(path, DIM, EMBEDDER)) as other:
        for customer in ("CUST001", "CUST002"):
            store.upsert(customer, [row("a", 1)])
            assert texts(other, customer) == ["text 1"]
        both = other.cached_bytes
        store.delete("CUST001")
        assert other.cached_bytes == both
        assert other.sweep() == 0
        assert 0 < other.cached_bytes < both
        assert texts(other, "CUST002") == ["text 1"]
