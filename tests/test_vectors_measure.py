"""Dealing out texts and timing searches: nothing twice, nobody else's, and honest cache counts."""

from pathlib import Path

import pytest

from bankllm.datasets import load, normalise
from bankllm.errors import UsageError
from bankllm.vectors.measure import Query, deal_out, time_searches
from bankllm.vectors.service import open_service


def test_texts_are_dealt_out_once_and_queries_are_none_of_them() -> None:
    data = load("teller77")
    messages, queries = deal_out(data, limit=100, customers=7)
    stored = [normalise(message.user_message) for turns in messages.values() for message in turns]
    asked = [normalise(query.text) for query in queries]
    assert len(stored) == len(set(stored)) == 100
    assert len(asked) == len(set(asked)) == len(data.test)
    assert not set(stored) & set(asked)
    assert {len(turns) for turns in messages.values()} == {14, 15}
    everything, _ = deal_out(data, limit=10**6, customers=3)
    assert sum(map(len, everything.values())) == len(data.train)


def test_searches_are_rows_and_the_cache_is_counted_by_workload() -> None:
    messages, queries = deal_out(load("teller77"), limit=30, customers=3)
    with open_service() as service:
        for user, turns in messages.items():
            service.store_many(user, turns)
        service.embedder.clear_cache()
        distinct = time_searches(service, queries[:12], list(messages), "distinct", count=50)
        service.embedder.clear_cache()
        repeated = time_searches(service, queries[:12], list(messages), "repeated", count=20)
    assert (len(distinct), len(repeated)) == (12, 20)
    assert {row["cached"] for row in distinct} == {"no"}
    assert 8 <= sum(row["cached"] == "memory" for row in repeated) < 20
    for row in (*distinct, *repeated):
        assert row["foreign_matches"] == 0
        assert row["matches"] == 5
        assert row["total_ms"] == pytest.approx(row["embed_ms"] + row["search_ms"])


def test_a_neighbour_of_the_same_intent_is_seen() -> None:
    with open_service() as service:
        service.store_message("u", "the machine swallowed my card", "Noted.", "card_swallowed")
        alike, other = (
            time_searches(service, [Query("card eaten by ATM", intent)], ["u"], "distinct", count=1)[0]
            for intent in ("card_swallowed", "age_limit")
        )
        assert (alike["same_intent"], other["same_intent"]) == (True, False)
        with pytest.raises(UsageError, match="found 0 and 1"):
            time_searches(service, [], ["u"], "distinct", count=1)


def test_a_query_that_another_process_embedded_is_told_apart(tmp_path: Path) -> None:
    path, query = tmp_path / "memory.sqlite", [Query("card eaten by ATM", "card_swallowed")]
    with open_service(path) as service:
        first = time_searches(service, query, ["u"], "distinct", count=1)
        embedder = service.embedder
    embedder.memory.clear()  # as in a new process
    with open_service(path, embedder=embedder) as service:
        second = time_searches(service, query, ["u"], "distinct", count=1)
        third = time_searches(service, query, ["u"], "distinct", count=1)
    assert [rows[0]["cached"] for rows in (first, second, third)] == ["no", "shared", "memory"]
