"""One customer's memory and shared collections: bound to their namespace, and kind to bad input."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_embedder import DIM, fake_embedder, vectors

from bankllm.errors import StoreError, UsageError
from bankllm.vectors.collection import MAX_METADATA_BYTES, Collection
from bankllm.vectors.customer import CustomerMemory, Message
from bankllm.vectors.service import VectorService, open_service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[VectorService]:
    with open_service(tmp_path / "memory.sqlite", embedder=fake_embedder()) as opened:
        yield opened


@pytest.fixture
def memory(service: VectorService) -> CustomerMemory:
    return service.for_user("CUST001")


@pytest.fixture
def intents(service: VectorService) -> Collection:
    return service.collection("intents")


def test_a_memory_stays_with_its_customer(service: VectorService, memory: CustomerMemory) -> None:
    first = memory.store("I lost my card", "Frozen.", "lost_or_stolen_card", conversation_id="talk-1")
    memory.store_many([Message("hello"), Message("good bye", "Bye!", "goodbye")])
    service.for_user("CUST002").store("I lost my card", "Frozen.", "lost_or_stolen_card")
    assert [match.id for match in memory.search("i lost MY card", 1)] == [first]
    assert len(memory.search("card", 100)) == 3
    assert [turn.user_message for turn in memory.recent(2)] == ["good bye", "hello"]
    assert memory.export()[0]["message_id"] == first
    assert memory.export()[0]["conversation_id"] == "talk-1"
    memory.forget([first, "unknown"])
    assert [turn["user_message"] for turn in memory.export()] == ["hello", "good bye"]
    memory.forget()
    assert memory.export() == []
    assert service.for_user("CUST002").recent(5)[0].user_message == "I lost my card"


def test_the_customer_of_a_memory_cannot_be_changed(memory: CustomerMemory) -> None:
    with pytest.raises(AttributeError):
        memory.user_id = "CUST002"  # type: ignore[misc]
    with pytest.raises(TypeError):
        memory.search("card", user_id="CUST002")  # type: ignore[call-arg]


def test_a_collection_is_filled_searched_counted_and_cleared(service: VectorService, intents: Collection) -> None:
    ids = intents.add(
        ["my card is gone", "send money abroad"], metadata=[{"intent": "lost_card"}, {"intent": "transfer"}]
    )
    match = service.semantic_search("MY card is gone", 1, collection="intents")[0]
    assert (match.id, match.text, match.metadata) == (ids[0], "my card is gone", {"intent": "lost_card"})
    assert intents.count() == 2
    assert service.collection("knowledge").search("card") == []
    intents.clear()
    intents.clear()
    assert (intents.count(), intents.search("card")) == (0, [])


def test_adding_the_same_texts_again_doubles_nothing(intents: Collection) -> None:
    first = intents.add(["a b", "c d", "a b"], metadata=[{"n": 1}, {"n": 2}, {"n": 3}])
    assert first[0] == first[2] != first[1]
    assert intents.add(["a b", "c d", "e f"])[:2] == first[:2]
    assert intents.count() == 3
    assert intents.add(["other text"], ids=["mine"]) == ["mine"]
    intents.add(["new text"], ids=["mine"])
    assert intents.count() == 4
    assert intents.search("new text", 1)[0].id == "mine"
    assert intents.add([]) == []


def test_the_last_of_equal_texts_gives_metadata_and_vector(intents: Collection) -> None:
    twice = np.stack([vectors(["one"])[0], vectors(["two"])[0]])
    intents.add(["same", "same"], metadata=[{"n": 1}, {"n": 2}], vectors=twice)
    match = intents.search("anything", 1, vector=twice[1])[0]
    assert match.metadata == {"n": 2}
    assert match.score == pytest.approx(1)


@pytest.mark.parametrize("name", ["intents", "CUST001", "collection", "collection%20intents", "collection/intents"])
def test_a_customer_named_like_a_collection_is_another(service: VectorService, name: str) -> None:
    service.collection("intents").add(["shared text"])
    service.collection(name).add(["shared text"])
    service.for_user(name).store("own text", "", "")
    assert [match.text for match in service.for_user(name).search("text", 10)] == ["own text"]
    assert [match.text for match in service.collection(name).search("text", 10)] == ["shared text"]
    service.forget_user(name)
    assert service.collection(name).count() == 1


def test_a_search_names_a_customer_or_a_collection(service: VectorService) -> None:
    with pytest.raises(UsageError, match=r"got neither. Give user_id='CUST001' or collection='intents'"):
        service.semantic_search("card")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"got both. Give user_id='CUST001' or collection='intents'"):
        service.semantic_search("card", user_id="CUST001", collection="intents")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="Expected a user_id of 1–128"):
        service.semantic_search("card", user_id="")
    with pytest.raises(UsageError, match="Expected a collection name of 1–128"):
        service.semantic_search("card", collection="")


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "naïve", "💳", "__default__", "x" * 129, None, 7])
def test_names_that_do_not_fit_are_refused(service: VectorService, name: str) -> None:
    for what, open_it in (("user_id", service.for_user), ("collection name", service.collection)):
        with pytest.raises(UsageError, match=f"Expected a {what} of 1–128 printable ASCII characters without spaces"):
            open_it(name)


@pytest.mark.parametrize("name", ["a/b", "../CUST001", "%2F", "x" * 128, "'--"])
def test_odd_names_that_fit_are_taken(service: VectorService, name: str) -> None:
    service.for_user(name).store("hello", "", "")
    service.collection(name).add(["hello"])
    assert service.for_user("never-seen").search("hello") == []
    assert len(service.for_user(name).search("hello")) == len(service.collection(name).search("hello")) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: expected 1–4000 characters"),
        (" \n\t", "is empty"),
        (None, "is empty"),
        ("x" * 100_000, "has 100000 characters: expected at most 4000; shorten or split it"),
    ],
)
def test_texts_that_do_not_fit_are_refused(
    service: VectorService, memory: CustomerMemory, intents: Collection, text: str, said: str
) -> None:
    with pytest.raises(UsageError, match=f"user_message {said}"):
        memory.store(text, "", "")
    with pytest.raises(UsageError, match=f"text 1 {said}"):
        intents.add(["good", text])
    for search in (memory.search, intents.search):
        with pytest.raises(UsageError, match=f"query {said}"):
            search(text)
    assert service.stats().messages == 0


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (np.full(DIM, np.nan), "finite numbers, not all zero"),
        (np.r_[np.inf, np.ones(DIM - 1)], "finite numbers, not all zero"),
        (np.zeros(DIM), "finite numbers, not all zero"),
        (np.ones(DIM + 1), rf"Expected a vector of shape \({DIM},\), got \({DIM + 1},\)"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(
    service: VectorService, memory: CustomerMemory, intents: Collection, vector: np.ndarray, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        memory.store("hello", "", "", vector=vector)
    with pytest.raises(UsageError, match=said):
        intents.add(["hello"], vectors=vector[None])
    for search in (memory.search, intents.search):
        with pytest.raises(UsageError, match=said):
            search("hello", vector=vector)
    assert service.stats().messages == 0


@pytest.mark.parametrize("top_k", [0, -1, 2.5, True, "3", None])
def test_a_top_k_that_does_not_fit_is_refused(memory: CustomerMemory, intents: Collection, top_k: int) -> None:
    for search in (memory.search, intents.search):
        with pytest.raises(UsageError, match="top_k is how many matches to return: expected a whole number ≥ 1"):
            search("hello", top_k)


def test_a_top_k_beyond_the_count_finds_all(intents: Collection) -> None:
    intents.add(["a", "b", "c"])
    assert len(intents.search("a", 10**9)) == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"texts": "one text"}, "add takes a list of texts"),
        ({"texts": ["a", "b"], "ids": ["x"]}, "Expected ids one a text: 2 texts, 1 ids"),
        ({"texts": ["a"], "metadata": []}, "Expected metadata one a text: 1 texts, 0 metadata"),
        ({"texts": ["a"], "vectors": np.ones((2, DIM))}, "Expected vectors one a text: 1 texts, 2 vectors"),
        ({"texts": ["a", "b"], "ids": ["x", "x"]}, "Two texts have the same id.*Give distinct ids"),
        ({"texts": ["a"], "ids": ["é"]}, "Expected a row id of 1–512 ASCII characters"),
        ({"texts": ["a"], "metadata": [{"text": "x"}]}, "the metadata key 'text' is reserved"),
        ({"texts": ["a"], "metadata": [{"x": None}]}, "expected metadata 'x' to be a str, number, bool"),
        ({"texts": ["a"], "metadata": [{"x": "y" * MAX_METADATA_BYTES}]}, "metadata of text 0 take 20009 bytes"),
        ({"texts": ["\ud83d"]}, "half of a surrogate pair"),
    ],
)
def test_what_a_collection_does_not_take_is_said(intents: Collection, given: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        intents.add(**given)
    assert intents.count() == 0


def test_a_closed_service_says_so_and_closes_twice(service: VectorService) -> None:
    service.close()
    service.close()
    with pytest.raises(StoreError, match="closed"):
        service.for_user("CUST001").store("hello", "", "")
    with pytest.raises(StoreError, match="closed"):
        service.semantic_search("hello", user_id="CUST001")
