"""Timed searches: cache counts, no rows of other customers, and stored texts are found by another service."""

from pathlib import Path

import pytest

from bankllm.datasets import load
from bankllm.lab.vector_corpus import FilledMemory, SearchScope, fill, gather
from bankllm.lab.vector_timing import time_searches, time_until_found
from bankllm.vectors.service import VectorService, open_service
from tests.support.fake_embedder import fake_embedder

TEXTS = gather(load("teller77"))[:60]
QUERIES = [text.text for text in TEXTS]


def filled(service: VectorService) -> FilledMemory:
    memory = fill(service, TEXTS, service.embedder.encode(QUERIES))
    service.embedder.clear_cache()
    return memory


def test_search_rows_have_the_source_of_the_embedding(tmp_path: Path) -> None:
    with open_service(tmp_path / "memory.sqlite", embedder=fake_embedder()) as service:
        memory = filled(service)
        cold = time_searches(service, QUERIES, memory.customers, count=20)
        warm = time_searches(service, QUERIES, [memory.everything], count=20, mode="hybrid")
        again = time_searches(service, QUERIES, memory.customers, count=20)
    for rows, cached in ((cold, "no"), (warm, "memory"), (again, "memory")):
        assert len(rows) == 20
        assert {row["cached"] for row in rows} == {cached}
        assert {row["foreign_matches"] for row in rows} == {0}
        assert {row["matches"] for row in rows} == {5}
        assert all(row["total_ms"] == pytest.approx(row["embed_ms"] + row["search_ms"]) for row in rows)
    places = [row["place"] for row in cold]
    assert places == [row["place"] for row in again], "the same seed repeats the same searches"
    assert {(row["scope"], row["mode"]) for row in warm} == {("all", "hybrid")}


def test_a_foreign_match_is_counted() -> None:
    with open_service(embedder=fake_embedder()) as service:
        memory = filled(service)
        first = memory.customers[0]
        wrong = SearchScope("customer", memory.customers[1].name, first.ids)
        (row,) = time_searches(service, QUERIES, [wrong], count=1)
        assert row["foreign_matches"] == row["matches"] == 5


def test_a_stored_text_is_found_by_another_service_in_its_first_search(tmp_path: Path) -> None:
    with open_service(tmp_path / "memory.sqlite", embedder=fake_embedder()) as writer:
        memory = filled(writer)
        with open_service(tmp_path / "memory.sqlite", embedder=fake_embedder()) as reader:
            for place in (memory.everything, memory.customers[2]):
                rows = time_until_found(writer, reader, place, count=10)
                assert [(row["found"], row["searches"], row["scope"]) for row in rows] == [(True, 1, place.scope)] * 10
                assert all(float(str(row["store_ms"])) > 0 for row in rows)


def test_a_text_that_is_not_in_the_readers_file_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bankllm.lab.vector_timing.TIMEOUT_S", 0.02)
    with open_service(embedder=fake_embedder()) as writer, open_service(embedder=fake_embedder()) as reader:
        (row,) = time_until_found(writer, reader, SearchScope("customer", "u", {}), count=1)
        assert row["found"] is False
