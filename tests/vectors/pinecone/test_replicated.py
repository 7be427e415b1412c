"""`ReplicatedStore` with the real SDK over HTTP, against a server that injects faults.

The SDK keeps one retry budget per process, so no test depends on the number of retries. sqlite/test_store.py tests the
common contract of all stores; test_outage.py tests killed processes.
"""

import logging
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from bankllm.vectors.pinecone import outbox_worker, replicated
from bankllm.vectors.pinecone.index import ForeignRecord, KeyRefused
from bankllm.vectors.pinecone.outbox import push_lock
from bankllm.vectors.pinecone.replicated import ReplicatedStore
from tests.support.pinecone_server import API_KEY, PineconeServer
from tests.support.server_client import until
from tests.support.store_model import CUSTOMERS, drain, expected_texts, open_replicated, row, texts, vector_of


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all pauses and timeouts."""
    monkeypatch.setattr(outbox_worker, "POLL_S", 0.02)
    monkeypatch.setattr(outbox_worker, "LONGEST_PAUSE_S", 0.2)
    monkeypatch.setattr(replicated, "OPEN_S", 2.0)
    monkeypatch.setattr(replicated, "DRAIN_S", 2.0)
    monkeypatch.setattr(replicated, "COOLDOWN_S", 0.2)


open_store = partial(open_replicated, search_s=1.0)


@pytest.fixture
def store(server: PineconeServer, tmp_path: Path) -> Iterator[ReplicatedStore]:
    with closing(open_store(server, tmp_path / "one.sqlite")) as opened:
        yield opened


@pytest.fixture
def other(server: PineconeServer, tmp_path: Path) -> Iterator[ReplicatedStore]:
    """Return the store of a second machine."""
    with closing(open_store(server, tmp_path / "other.sqlite")) as opened:
        yield opened


def test_two_machines_match_the_model(server: PineconeServer, tmp_path: Path) -> None:
    generator = random.Random(0)
    models: dict[str, dict[str, int]] = {customer: {} for customer in CUSTOMERS}
    with (
        closing(open_store(server, tmp_path / "one.sqlite")) as one,
        closing(open_store(server, tmp_path / "other.sqlite")) as other,
    ):
        owner: dict[tuple[str, str], int] = {}  # as in the service, only one machine writes an id
        for step in range(60):
            customer, machine = generator.choice(CUSTOMERS), generator.randrange(2)
            acting = (one, other)[machine]
            ids = [id_ for id_ in (f"m{n}" for n in range(20)) if owner.get((customer, id_), machine) == machine]
            ids = generator.sample(ids, min(len(ids), generator.randint(1, 4)))
            owner |= {(customer, id_): machine for id_ in ids}
            if generator.random() < 0.7:
                rows = {id_: 10 * step + n for n, id_ in enumerate(ids)}
                models[customer] |= rows
                acting.upsert(customer, [row(id_, seed) for id_, seed in rows.items()])
            else:
                acting.delete(customer, ids)
                models[customer] = {id_: seed for id_, seed in models[customer].items() if id_ not in ids}
            drain(acting)
            for each in (one, other):
                assert texts(each, customer) == expected_texts(models[customer])
                assert texts(each, customer, top_k=3) == expected_texts(models[customer])[:3]
                assert sorted(found.text for found in each.export(customer)) == sorted(expected_texts(models[customer]))
        assert one.count() + other.count() == sum(map(len, models.values()))
        assert one.fallbacks == other.fallbacks == 0


def test_deleted_rows_stay_hidden_while_pinecone_lags_and_after_a_restart(server: PineconeServer, path: Path) -> None:
    with closing(open_store(server, path)) as store:
        store.upsert("CUST001", [row("a", 1), row("b", 2)])
        store.upsert("CUST002", [row("c", 3)])
        drain(store)
        server.lag_s = 60
        store.delete("CUST001", ["a"])
        store.delete("CUST002")
        assert (texts(store, "CUST001"), texts(store, "CUST002")) == (["text 2"], [])
        store.upsert("CUST003", [row("d", 4)])
        drain(store)
        assert (texts(store, "CUST001"), texts(store, "CUST002")) == (["text 2"], [])
        assert (texts(store, "CUST003"), store.count("CUST003")) == (["text 4"], 1), "own writes are found at once"
    with closing(open_store(server, path)) as store:
        assert (texts(store, "CUST001"), texts(store, "CUST002")) == (["text 2"], [])
        assert [found.id for found in store.export("CUST001")] == ["b"]
        assert (store.export("CUST002"), store.count("CUST002")) == ([], 0)
        assert store.fallbacks == 0


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 503])
def test_during_an_outage_writes_are_queued_and_searches_are_local(
    server: PineconeServer, store: ReplicatedStore, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store.upsert("CUST001", [row("a", 1)])
    drain(store)
    server.failing = status
    for n in range(2, 30):
        store.upsert("CUST001", [row(f"m{n}", n)])
        assert len(texts(store, "CUST001")) == n
    assert (len(store.export("CUST001")), store.count()) == (29, 29)
    until(lambda: bool(store.last_error))
    backlog = store.backlog()
    assert (backlog.depth, backlog.oldest_s > 0, store.fallbacks > 0) == (28, True, True)
    server.failing = 0
    drain(store)
    assert len(server.namespaces["CUST001"]) == 29
    assert [id_ for _, id_ in server.written] == ["a", *(f"m{n}" for n in range(2, 30))]
    until(lambda: not store.last_error)
    logged = [record.message for record in caplog.records if record.name.startswith("bankllm")]
    assert sum("Writes stay queued in the local file until" in line for line in logged) == 1
    assert sum("Searches use only the local file until" in line for line in logged) == 1
    assert "Pinecone accepts writes again." in logged


def test_searches_skip_pinecone_after_several_late_answers(server: PineconeServer, tmp_path: Path) -> None:
    with closing(open_store(server, tmp_path / "memory.sqlite", search_s=0.05)) as store:
        store.upsert("CUST001", [row("a", 1)])
        drain(store)
        server.delay_s = 0.3
        for _ in range(50):
            assert texts(store, "CUST001") == ["text 1"]
        assert store.fallbacks == 50
        assert server.calls.count("/query") < 20, "most searches did not ask Pinecone"
        server.delay_s = 0.0

        def answered() -> bool:
            before = store.fallbacks
            texts(store, "CUST001")
            return store.fallbacks == before

        until(answered)


def test_a_store_opened_during_an_outage_pushes_its_writes_later(
    server: PineconeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicated, "OPEN_S", 0.1)
    server.stop()
    try:
        with closing(open_store(server, tmp_path / "memory.sqlite")) as store:
            store.upsert("CUST001", [row("a", 1)])
            assert (texts(store, "CUST001"), store.count()) == (["text 1"], 1)
            server.start()
            drain(store)
            assert list(server.namespaces["CUST001"]) == ["a"]
            server.stop()
    finally:
        server.start()


def test_a_rejected_record_is_parked_and_the_others_are_pushed(
    server: PineconeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "memory.sqlite"
    server.poison = {"bad"}
    with closing(open_store(server, path)) as store:
        store.upsert("CUST001", [row("a", 1), row("bad", 2), row("c", 3), row("d", 4)])
        drain(store)
        assert sorted(server.namespaces["CUST001"]) == ["a", "c", "d"]
        until(lambda: store.backlog().parked == 1)
        assert len(texts(store, "CUST001")) == store.count("CUST001") == 4
    assert [record.message for record in caplog.records if "rejected record 'bad'" in record.message]
    server.poison = set()
    with closing(open_store(server, path)) as store:
        until(lambda: "bad" in server.namespaces["CUST001"])
        until(lambda: store.backlog().parked == store.backlog().depth == 0)


def test_a_rejected_key_is_logged_once_and_reported(
    server: PineconeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(open_store(server, tmp_path / "memory.sqlite")) as store:
        server.key = "rotated"
        store.upsert("CUST001", [row("a", 1)])
        until(lambda: isinstance(store.last_error, KeyRefused))
        assert texts(store, "CUST001") == ["text 1"]
        time.sleep(0.5)
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == 1
        assert "rejected the API key. Check PINECONE_API_KEY" in errors[0].message
        assert API_KEY not in errors[0].message
        server.key = API_KEY
        drain(store)
        until(lambda: store.last_error is None)


def test_another_customers_record_is_an_error_without_fallback(server: PineconeServer, store: ReplicatedStore) -> None:
    store.upsert("CUST001", [row("a", 1)])
    store.upsert("CUST002", [row("b", 2)])
    drain(store)
    server.leak = True
    with pytest.raises(ForeignRecord, match="record b for 'CUST001', but the record is not that customer's") as error:
        store.search("CUST001", vector_of(0), 5)
    assert "text 2" not in str(error.value)
    assert store.fallbacks == 0


def test_only_one_process_pushes_at_a_time(server: PineconeServer, store: ReplicatedStore, tmp_path: Path) -> None:
    with ExitStack() as held:
        until(lambda: held.enter_context(push_lock(tmp_path / "one.sqlite")))  # the store holds the lock only briefly
        store.upsert("CUST001", [row("a", 1)])
        time.sleep(0.2)
        assert not server.written
    drain(store)


def test_close_pushes_the_remaining_rows(
    server: PineconeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicated, "DRAIN_S", 60.0)
    with closing(open_store(server, tmp_path / "memory.sqlite")) as store:
        store.upsert("CUST001", [row(f"m{n}", n) for n in range(3000)])
    assert len(server.namespaces["CUST001"]) == 3000
    assert all(records <= 1000 for records, _ in server.upserts)
