"""Rows with a time to live: never returned once they have expired, and gone from the file after the next sweep."""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bankllm.errors import UsageError
from bankllm.vectors.namespaces import Message
from bankllm.vectors.rows import Row
from bankllm.vectors.service import VectorService, open_service
from bankllm.vectors.sqlite import store as store_module
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.fake_embedder import fake_embedder
from tests.support.pinecone_server import PineconeServer
from tests.support.store_model import DIM, EMBEDDER, bytes_beside, drain, open_replicated, sql, texts, vector_of

HOUR = 3600.0


@pytest.fixture(params=["sqlite", "replicated"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[SQLiteStore]:
    if request.param == "sqlite":
        opened: SQLiteStore = SQLiteStore(path, DIM, EMBEDDER)
    else:
        opened = open_replicated(request.getfixturevalue("server"), path)
    with closing(opened):
        yield opened


@pytest.fixture
def service(path: Path) -> Iterator[VectorService]:
    with open_service(path, embedder=fake_embedder()) as opened:
        yield opened


def aged(id_: str, seed: int, age_s: float | None) -> Row:
    """A row that expired `age_s` seconds ago; None: it does not expire."""
    return Row(id_, f"text {seed}", vector_of(seed), expires_at=None if age_s is None else time.time() - age_s)


def test_an_expired_row_is_returned_by_no_call(store: SQLiteStore) -> None:
    rows = [aged("old", 1, 1), aged("new", 2, -HOUR), aged("kept", 3, None)]
    store.upsert_many([("CUST001", rows), ("CUST002", [aged("old", 4, 1)])])
    assert sorted(texts(store, "CUST001")) == ["text 2", "text 3"]
    assert texts(store, "CUST001", seed=1, top_k=1) != ["text 1"]
    assert [row.id for row in store.export("CUST001")] == ["new", "kept"]
    assert [row.id for row in store.recent("CUST001", 2)] == ["kept", "new"]
    assert [row.expires_at for row in store.export("CUST001")] == [rows[1].expires_at, None]
    assert (store.count("CUST001"), store.count("CUST002"), store.count()) == (2, 0, 2)
    assert texts(store, "CUST002") == []


@pytest.mark.parametrize("opens", [False, True])
def test_a_sweep_removes_the_bytes_of_expired_rows(path: Path, journal: str, opens: bool) -> None:
    secret = "the secret words of CUST001"
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        old = Row("old", secret, vector_of(1), {"reply": secret}, expires_at=time.time() - 1)
        store.upsert("CUST001", [old, aged("kept", 2, -HOUR)])
        assert secret.encode() in bytes_beside(path)
        if opens:  # another process that opens the file
            SQLiteStore(path, DIM, EMBEDDER).close()
        else:
            assert (store.sweep(), store.sweep()) == (1, 0)
        assert secret.encode() not in bytes_beside(path)
        assert texts(store, "CUST001") == ["text 2"]


def test_a_write_sweeps_every_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [aged("old", 1, 1)])
        store.upsert("CUST002", [aged("kept", 2, None)])
        assert sql(path, "SELECT count(*) FROM rows") == [(2,)]
        monkeypatch.setattr(store_module, "SWEEP_EVERY_S", 0)
        store.upsert("CUST002", [aged("later", 3, None)])
        assert sql(path, "SELECT namespace FROM rows") == [("CUST002",), ("CUST002",)]


def test_pinecone_neither_returns_nor_keeps_expired_rows(server: PineconeServer, tmp_path: Path) -> None:
    with (
        closing(open_replicated(server, tmp_path / "one.sqlite")) as one,
        closing(open_replicated(server, tmp_path / "two.sqlite")) as two,
    ):
        one.upsert("CUST001", [aged("old", 1, 1), aged("new", 2, -HOUR)])
        drain(one)
        assert texts(two, "CUST001") == ["text 2"]
        assert texts(two, "CUST001", seed=1, top_k=1) == ["text 2"]
        assert [row.id for row in two.export("CUST001")] == ["new"]
        assert two.export("CUST001")[0].expires_at == pytest.approx(time.time() + HOUR, abs=60)
        assert one.sweep() == 1
        drain(one)
        assert list(server.namespaces["CUST001"]) == ["new"]


def test_retain_sets_the_expiry_of_stored_rows_by_their_age(store: SQLiteStore) -> None:
    written = Row("old", "text 1", vector_of(1), created_at="2026-01-02T03:04:05.000000+00:00")
    store.upsert_many([("CUST001", [written, aged("new", 2, None)]), ("CUST002", [written])])
    store.retain("CUST001", HOUR)
    assert texts(store, "CUST001") == ["text 2"]
    assert texts(store, "CUST002") == ["text 1"]
    store.retain("CUST001", None)
    assert sorted(texts(store, "CUST001")) == ["text 1", "text 2"]


def test_a_clock_that_jumps_shows_no_expired_row_and_deletes_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [aged("old", 1, 1), aged("new", 2, -HOUR)])
        monkeypatch.setattr(time, "time", lambda: real() - 2 * HOUR)
        assert texts(store, "CUST001") == ["text 2"]
        monkeypatch.setattr(time, "time", lambda: real() + 2 * HOUR)
        assert texts(store, "CUST001") == []
        assert store.sweep() == 1
        monkeypatch.setattr(time, "time", real)
        assert texts(store, "CUST001") == ["text 2"]


def test_the_time_to_live_of_a_call_a_customer_and_the_setting(
    path: Path, service: VectorService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.close()
    monkeypatch.setenv("BANKLLM_MEMORY_TTL_S", "100")
    with open_service(path, embedder=fake_embedder()) as service:
        service.for_user("CUST001").store("setting", "", "")
        service.for_user("CUST001").store("call", "", "", ttl_s=200)
        service.store.retain("CUST002", 300)
        service.for_user("CUST002").store_many([Message("customer")])
        service.for_user("CUST001").store_many([Message("for ever")], ttl_s=math.inf)
        service.collection("knowledge").add(["article"])
        service.collection("news").add(["today"], ttl_s=400)
        names = ("CUST001", "CUST002", "collection knowledge", "collection news")
        kept = [row for name in names for row in service.store.export(name)]
    left = [None if row.expires_at is None else round(row.expires_at - time.time(), -1) for row in kept]
    assert left == [100, 200, None, 300, None, 400]


@pytest.mark.parametrize("ttl_s", [0, -1, 1e12, math.nan, -math.inf, True, "60"])
def test_an_invalid_time_to_live_is_rejected(service: VectorService, ttl_s: float) -> None:
    memory = service.for_user("CUST001")
    for call in (
        lambda: memory.store("hello", "", "", ttl_s=ttl_s),
        lambda: memory.store_many([Message("hello")], ttl_s=ttl_s),
        lambda: service.collection("news").add(["hello"], ttl_s=ttl_s),
        lambda: service.store.retain("CUST001", ttl_s),
    ):
        with pytest.raises(UsageError, match=r"expected a number above 0 and at most 3155760000 \(100 years\)"):
            call()
    assert service.store.count() == 0
    with pytest.raises(UsageError, match="expected expires_at in seconds since 1970"):
        service.store.upsert("CUST001", [Row("a", "text", service.embedder.encode(["a"])[0], expires_at=math.nan)])
