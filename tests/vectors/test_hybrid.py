"""Search by meaning and words: what is found, statistics of the own namespace only, and no copies of deleted words."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import UsageError
from bankllm.vectors.rows import Match, Query, Row
from bankllm.vectors.service import VectorService, open_service
from bankllm.vectors.sqlite import matrices
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.fake_embedder import fake_embedder
from tests.support.fake_embedder import vectors as embed
from tests.support.pinecone_server import PineconeServer
from tests.support.store_model import drain, open_replicated

TEXTS = [
    "I paid £3.50 to O'Brien",
    "error E14 at Sainsbury's",
    "my code CR-203 was refused at the Café Crème",
    "where is my card",
    "I paid £35.00 to Tesco",
]


@pytest.fixture(params=["small", "large"])
def service(request: pytest.FixtureRequest, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VectorService]:
    if request.param == "large":  # loaded in parts
        monkeypatch.setattr(matrices, "LOAD_ROWS", 2)
    with open_service(path, embedder=fake_embedder()) as opened:
        opened.collection("notes").add(TEXTS)
        yield opened


def found(service: VectorService, query: str, mode: str, top_k: int = 9) -> list[str]:
    return [match.text for match in service.semantic_search(query, top_k, collection="notes", mode=mode)]


@pytest.mark.parametrize(
    ("query", "number"),
    [
        *[("£3.50", 0), ("3.5", 0), ("35", 4), ("E14", 1), ("e14?", 1), ("CR-203", 2), ("cr203", 2)],
        *[("O'Brien", 0), ("obrien", 0), ("O’BRIEN", 0), ("sainsburys", 1), ("sainsbury's", 1), ("SAINSBURY", 1)],
        *[("cafe", 2), ("CREME", 2), ("cards", 3)],
    ],
)
def test_numbers_codes_names_and_accents_are_found_by_words(service: VectorService, query: str, number: int) -> None:
    assert found(service, query, "lexical")[0] == TEXTS[number]


@pytest.mark.parametrize(("query", "number"), [("what does £3.50 mean", 0), ("CR203", 2), ("help with e14", 1)])
def test_a_number_or_code_comes_first_in_hybrid_search(service: VectorService, query: str, number: int) -> None:
    (match, *_) = service.semantic_search(query, 3, collection="notes")
    assert match.text == TEXTS[number]
    assert match.lexical > 0
    assert match.found_by == "both"
    assert match.score == pytest.approx(float(embed([query])[0] @ embed([match.text])[0]), abs=1e-6)


def test_each_mode_says_how_it_ranked(service: VectorService) -> None:
    dense = service.semantic_search("my card", 9, collection="notes", mode="dense")
    assert [match.score for match in dense] == sorted((match.score for match in dense), reverse=True)
    assert {(match.lexical, match.fused, match.found_by) for match in dense} == {(0.0, 0.0, "dense")}
    lexical = service.semantic_search("my card", 9, collection="notes", mode="lexical")
    assert [match.text for match in lexical] == [TEXTS[3], TEXTS[2]]
    assert [match.lexical for match in lexical] == sorted((match.lexical for match in lexical), reverse=True)
    hybrid = service.semantic_search("my card", 9, collection="notes", mode="hybrid")
    assert {match.text for match in hybrid} == set(TEXTS)
    assert [match.fused for match in hybrid] == sorted((match.fused for match in hybrid), reverse=True)
    assert {match.text for match in hybrid if match.found_by == "both"} == {TEXTS[2], TEXTS[3]}


def test_in_a_collection_of_documents_both_rankings_decide(path: Path) -> None:
    with open_service(path, embedder=fake_embedder()) as service:
        articles = service.collection("articles")
        articles.add([f"{topic} " * 160 for topic in ("loans", "cards", "overdraft fees")])
        vector = service.store.export("collection articles")[0].vector  # the query's is nearest to another article
        assert articles.search("overdraft", 1, vector=vector, mode="dense")[0].text.startswith("loans")
        matches = articles.search("overdraft", vector=vector)
        assert [match.text.split()[0] for match in matches[:2]] == ["overdraft", "loans"]
        assert [match.found_by for match in matches] == ["both", "dense", "dense"]


def test_scores_do_not_depend_on_rows_of_others(path: Path) -> None:
    query = "where is my card from O'Brien"
    with open_service(path, embedder=fake_embedder()) as service:
        service.collection("notes").add(TEXTS)

        def scores() -> list[tuple[str, float, float, float]]:
            matches = service.semantic_search(query, 9, collection="notes")
            return [(match.id, match.score, match.lexical, match.fused) for match in matches]

        alone = scores()
        assert any(lexical for *_, lexical, _ in alone)
        service.for_user("CUST002").store_many([])
        for number in range(50):
            service.for_user("CUST002").store(f"where is my card, O'Brien? {number}", "", "")
        service.collection("other").add(["my card", "card card card"])
        assert scores() == alone
        service.for_user("CUST002").forget()
        assert scores() == alone
    with open_service(path, embedder=fake_embedder()) as service:
        assert scores() == alone


def test_a_replaced_text_is_not_found_by_its_words(path: Path) -> None:
    secret = "Zwiebelkuchen"
    model = fake_embedder()
    with closing(SQLiteStore(path, model.dim, model.model_id)) as store:
        rows = [Row(str(number), f"{secret} number {number}", embed([f"{secret} {number}"])[0]) for number in range(40)]
        store.upsert("CUST001", rows)
        query = Query("CUST001", embed([secret])[0], [secret], "lexical")
        assert len(store.search_many([query], 99)[0]) == 40
        store.upsert("CUST001", [replace(rows[0], text="another text")])
        assert len(store.search_many([query], 99)[0]) == 39


ODD = ["?!.,;", "the of and", "AND", "card AND NOT", '"', '"card', "card*", "*", "col:card", "NEAR(card, 2)"]
ODD += ["card\0", "'; DROP TABLE rows; --", "{card}", "-card", "\ud7ff", "💳", "x" * 16_000, "card. " * 2600]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize("query", ODD)
def test_every_query_is_plain_words(service: VectorService, query: str, mode: str) -> None:
    texts = found(service, query, mode)
    assert len(texts) == len(set(texts))
    assert mode == "lexical" or len(texts) == len(TEXTS)
    if mode == "lexical" and "card" in query:
        assert texts == [TEXTS[3]]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("\0", "query is empty"),
        ("x" * 100_000, "query has 100000 characters: expected at most 16000"),
        ("\ud83d", "unpaired surrogate"),
    ],
)
def test_an_invalid_query_is_an_error(service: VectorService, query: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        service.semantic_search(query, collection="notes")


def test_an_unknown_mode_is_an_error(service: VectorService) -> None:
    with pytest.raises(UsageError, match="Expected the mode hybrid, dense, lexical, got 'sparse'"):
        service.semantic_search("card", collection="notes", mode="sparse")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"got 1 vectors, 0 texts\. Pass one text per vector"):
        service.store.search_many([Query("CUST001", embed(["card"])[0], mode="hybrid")], 3)


def test_a_long_query_finds_what_each_sentence_asks_for(path: Path) -> None:
    with open_service(path, embedder=fake_embedder()) as service:
        service.collection("notes").add([*TEXTS, *[f"unrelated note number {number}" for number in range(50)]])
        asked = "\n".join([TEXTS[3], TEXTS[1], *["I am in a hurry, so please be quick and polite"] * 4])
        texts = [match.text for match in service.semantic_search(asked, 3, collection="notes")]
        assert {TEXTS[1], TEXTS[3]} <= set(texts)


def test_a_long_text_is_found_by_its_end(path: Path) -> None:
    with open_service(path, embedder=fake_embedder()) as service:
        ends = ["about loans", "about cards"]
        texts = [f"{'the same beginning ' * 80} {f'{end} ' * 60}" for end in ends]
        service.collection("notes").add(texts)
        vectors = [row.vector for row in service.store.export("collection notes")]
        assert abs(float(vectors[0] @ vectors[1])) < 0.999
        assert service.semantic_search("cards", 1, collection="notes")[0].text.rstrip().endswith("about cards")


def test_pinecone_adds_rows_of_other_machines_by_meaning(server: PineconeServer, tmp_path: Path) -> None:
    model = fake_embedder()

    def opened(name: str) -> SQLiteStore:
        return open_replicated(server, tmp_path / name, dim=model.dim, embedder_id=model.model_id)

    with closing(opened("one.sqlite")) as one, closing(opened("two.sqlite")) as two:
        for store, texts in ((one, TEXTS[:2]), (two, TEXTS[2:])):
            store.upsert("CUST001", [Row(str(TEXTS.index(text)), text, embed([text])[0]) for text in texts])
            drain(store)

        def search(query: str, mode: str) -> list[Match]:
            return one.search_many([Query("CUST001", embed([query])[0], [query], mode)], 9)[0]

        assert {match.text for match in search("e14", "hybrid")} == set(TEXTS)
        assert search("e14", "hybrid")[0].text == TEXTS[1]
        assert search(TEXTS[3], "hybrid")[0].text == TEXTS[3]
        assert [match.text for match in search("my card e14", "lexical")] == [TEXTS[1]]
        assert np.diff([match.fused for match in search("my card e14", "hybrid")]).max() <= 0
