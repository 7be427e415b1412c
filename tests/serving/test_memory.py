"""What a server keeps about a customer: receipts of deletions, expiry while it runs, and a kill during a deletion."""

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from bankllm.assistant.engine import ChatEngine
from bankllm.serving import app
from bankllm.settings import Settings
from bankllm.util.hash_chain import parse, verify
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.deletion import check_receipt
from bankllm.vectors.sqlite.file import existing, read_meta
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.chat import BALANCE, fake_engine
from tests.support.fake_embedder import DIM, fake_embedder
from tests.support.live_server import CHAT, bank, customer, errors_of, guarded, served
from tests.support.server_client import until
from tests.support.store_model import bytes_beside, sql

MEMORY = "/api/v1/customers/CUST001/memory"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.sqlite"


@pytest.fixture
def engine(path: Path) -> Iterator[ChatEngine]:
    store = SQLiteStore(path, DIM, fake_embedder().model_id, wait_s=0.05)
    with closing(fake_engine(store)) as made:
        yield made


def expired(engine: ChatEngine, path: Path) -> None:
    """Store a message that has expired."""
    engine.memory.store.upsert("CUST001", [Row("old", "my secret", np.ones(DIM), expires_at=time.time() - 1)])
    assert sql(path, "SELECT count(*) FROM rows") == [(1,)]


def test_a_server_deletes_expired_messages_without_a_request(
    engine: ChatEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SWEEP_EVERY_S", 0.02)
    expired(engine, path)
    with served(engine, Settings()):
        until(lambda: sql(path, "SELECT count(*) FROM rows") == [(0,)])


def test_a_locked_file_delays_the_sweep_and_does_not_end_it(
    engine: ChatEngine, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "SWEEP_EVERY_S", 0.02)
    expired(engine, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with served(engine, Settings()):
            until(lambda: any("expired messages are hidden, but not deleted yet" in text for text in errors_of(caplog)))
            other.execute("ROLLBACK")
            until(lambda: sql(path, "SELECT count(*) FROM rows") == [(0,)])


@pytest.mark.slow
def test_a_receipt_of_a_real_server_is_in_the_chain_of_its_file(tmp_path: Path) -> None:
    with guarded(tmp_path, workers=2) as server, customer(server) as client:
        client.post(CHAT, json=BALANCE | {"message": "what is my balance, dear quokka of Zanzibar"})
        assert b"quokka" in bytes_beside(tmp_path / "memory.sqlite")
        kept = client.get(MEMORY).json()["messages"][0]["message_id"]
        receipts = [client.delete(MEMORY) for _ in range(3)]
        assert [answer.status_code for answer in receipts] == [200] * 3
        assert [answer.json()["deleted_ids"] for answer in receipts] == [[kept], [], []]
        found = bytes_beside(tmp_path / "memory.sqlite").lower()
        assert [word for word in (b"quokka", b"zanzibar", b"balance") if word in found] == []
        described = client.get("/openapi.json").json()["paths"]["/api/v1/customers/{customer_id}/memory"]["delete"]
        assert described["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Receipt")
        assert "204" not in described["responses"]
        for answer in receipts:
            assert check_receipt(tmp_path / "memory.sqlite", answer.text).chained == 3


@pytest.mark.slow
def test_a_server_killed_after_a_deletion_leaves_a_receipt_for_exactly_the_deleted_rows(
    tmp_path: Path, path: Path
) -> None:
    with bank(tmp_path) as server:
        httpx.post(server.url + CHAT, json=BALANCE, timeout=60, trust_env=False).raise_for_status()
        with existing(path) as db:
            meta = read_meta(db)
        with closing(SQLiteStore(path, int(meta["dim"]), meta["embedder"])) as store:
            vectors = np.random.default_rng(0).normal(size=(4000, store.dim))
            store.upsert("CUST001", [Row(f"m{n}", f"text {n}", vector) for n, vector in enumerate(vectors)])
        stored = [id_ for (id_,) in sql(path, "SELECT id FROM rows ORDER BY seq")]

        def delete() -> None:
            with suppress(httpx.HTTPError):
                httpx.delete(server.url + MEMORY, timeout=60, trust_env=False)

        asking = threading.Thread(target=delete)
        asking.start()
        until(lambda: sql(path, "SELECT count(*) FROM receipts") == [(1,)])
        os.kill(server.pid, signal.SIGKILL)
        asking.join()
    entries = [parse(entry) for (entry,) in sql(path, "SELECT entry FROM receipts ORDER BY number")]
    verify(entries)
    (reported,) = (entry["deleted_ids"] for entry in entries)
    left = [id_ for (id_,) in sql(path, "SELECT id FROM rows ORDER BY seq")]
    assert reported
    assert [*reported, *left] == stored
    assert "text 1" not in json.dumps(entries)
