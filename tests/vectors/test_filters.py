"""Searches of texts with given metadata or of a period, in both stores and all modes."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bankllm.errors import UsageError
from bankllm.vectors.filters import Filter
from bankllm.vectors.namespaces import Message
from bankllm.vectors.rows import Query, Row
from bankllm.vectors.service import open_service
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.fake_embedder import fake_embedder
from tests.support.store_model import DIM, EMBEDDER, drain, open_replicated, vector_of

METADATA = [
    {"intent": "card_arrival", "conversation_id": "t1", "amount": 10, "tags": ["a", "b"]},
    {"intent": "card_arrival", "amount": 20.5, "open": True, "o'dd \"key.$": "x"},
    {"intent": "lost_card", "amount": "10", "open": False, "tags": []},
    {"intent": "", "open": 1},
    {},
]


@pytest.fixture(params=["sqlite", "pinecone"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[SQLiteStore]:
    """Rows 0 to 4 of CUST001, one day each; with Pinecone, in the file of another machine only."""
    rows = [
        Row(str(number), f"text {number}", vector_of(number), metadata, f"2026-01-0{number + 1}T12:00:00.000000+00:00")
        for number, metadata in enumerate(METADATA)
    ]
    foreign = [Row(f"foreign-{row.id}", row.text, row.vector, row.metadata, row.created_at) for row in rows]
    groups = [("CUST001", rows), ("CUST002", foreign)]
    if request.param == "sqlite":
        with closing(SQLiteStore(path, DIM, EMBEDDER)) as opened:
            opened.upsert_many(groups)
            yield opened
        return
    server = request.getfixturevalue("server")
    with closing(open_replicated(server, path)) as other:
        other.upsert_many(groups)
        drain(other)
        with closing(open_replicated(server, path.with_name("own.sqlite"))) as opened:
            yield opened


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (Filter(), "01234"),
        ({"intent": "card_arrival"}, "01"),
        ({"intent": ["lost_card", "card_arrival"]}, "012"),
        ({"intent": ""}, "3"),
        ({"intent": "CARD_ARRIVAL"}, ""),
        ({"intent": "card_arrival", "conversation_id": "t1"}, "0"),
        ({"created_from": "2026-01-02T12:00:00Z"}, "1234"),
        ({"created_from": "2026-01-02", "created_to": "2026-01-04T13:00:00+01:00"}, "12"),
        ({"created_to": datetime(2026, 1, 2, tzinfo=UTC)}, "0"),
        ({"metadata": {"amount": 10}}, "0"),
        ({"metadata": {"amount": 10.0}}, "0"),
        ({"metadata": {"amount": "10"}}, "2"),
        ({"metadata": {"amount": [10, "10", 20.5]}}, "012"),
        ({"metadata": {"amount": {">=": 10, "<": 20.5}}}, "0"),
        ({"metadata": {"amount": {">": 10}}}, "1"),
        ({"metadata": {"open": True}}, "1"),
        ({"metadata": {"open": False}}, "2"),
        ({"metadata": {"open": 1}}, "3"),
        ({"metadata": {"tags": "b"}}, "0"),
        ({"metadata": {"tags": ["c", "a"]}}, "0"),
        ({"metadata": {"o'dd \"key.$": "x"}}, "1"),
        ({"metadata": {"unknown": "x"}}, ""),
        ({"metadata": {"intent' OR 1=1 --": "x"}}, ""),
        ({"metadata": {"amount": [*range(1000)]}}, "0"),
        ({"intent": "card_arrival", "metadata": {"amount": {"<=": 10}}, "created_to": "2026-02-01"}, "0"),
    ],
)
@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_a_filter_selects_rows(store: SQLiteStore, where: object, found: str, mode: str) -> None:
    query = Query("CUST001", vector_of(99), ["text"], mode, Filter.parse(where))
    assert sorted(match.id for match in store.search_many([query], 50)[0]) == list(found)


def test_a_filter_also_applies_to_words_and_expiry(path: Path) -> None:
    with open_service(path, embedder=fake_embedder()) as service:
        memory = service.for_user("CUST001")
        memory.store_many([Message("my card", intent="card"), Message("my old card", intent="other")])
        assert [match.text for match in memory.search("card", mode="lexical", where={"intent": "card"})] == ["my card"]
        service.store.retain("CUST001", 1e-9)
        assert memory.search("card", where={"intent": "card"}) == []


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            {"intents": "card"},
            r"the fields intent, conversation_id, created_from, created_to, metadata, got \['intents'\]",
        ),
        ("card", "got 'card'"),
        ({"intent": 7}, "Expected intent in a filter to be a str or a list of str, got 7"),
        ({"conversation_id": ["a", None]}, "Expected conversation_id in a filter"),
        ({"created_from": "yesterday"}, "Expected created_from in a filter to be a datetime or ISO 8601 text"),
        ({"created_to": 1.7e9}, "Expected created_to in a filter"),
        ({"created_from": "2026-02-01", "created_to": "2026-01-01"}, "Expected created_from before created_to"),
        ({"metadata": ["amount"]}, "Expected metadata={key: value}"),
        ({"metadata": {"amount": None}}, "Expected amount in a filter to be a str, finite number or bool"),
        ({"metadata": {"amount": []}}, "Expected amount in a filter"),
        ({"metadata": {"amount": {}}}, "Expected amount in a filter"),
        ({"metadata": {"amount": {"=>": 1}}}, "with <, <=, >, >="),
        ({"metadata": {"amount": {">": "1"}}}, "comparisons of numbers"),
        ({"metadata": {"amount": float("nan")}}, "finite number"),
        ({"metadata": {"amount": [*range(1001)]}}, "Expected at most 1000 values in a filter, got 1001"),
    ],
)
def test_an_invalid_filter_is_an_error(path: Path, where: object, message: str) -> None:
    with open_service(path, embedder=fake_embedder()) as service, pytest.raises(UsageError, match=message):
        service.semantic_search("card", user_id="CUST001", where=where)  # type: ignore[arg-type]
