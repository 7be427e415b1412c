"""`VectorService` end to end with the real MiniLM and SQLite, and with Pinecone's SDK if a key is set."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bankllm.errors import UsageError
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.service import Message, VectorService, open_service
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.pinecone_server import API_KEY, PineconeServer
from tests.support.store_model import drain


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture
def memory(embedder: Embedder, tmp_path: Path) -> Iterator[VectorService]:
    with open_service(tmp_path / "memory.sqlite", embedder=embedder) as service:
        yield service


def test_a_message_is_found_by_its_meaning(memory: VectorService) -> None:
    card = memory.for_user("CUST001").store("I lost my debit card", "I have frozen it.", "lost_or_stolen_card")
    memory.for_user("CUST001").store("How do I change my PIN?", "At any cash machine.", "change_pin")
    memory.for_user("CUST002").store("My card is missing", "Frozen.", "lost_or_stolen_card")
    match = memory.semantic_search("my card is missing", 1, user_id="CUST001")[0]
    assert (match.id, match.text) == (card, "I lost my debit card")
    assert match.metadata == {"assistant_response": "I have frozen it.", "intent": "lost_or_stolen_card"}


def test_a_given_vector_is_not_embedded_again(memory: VectorService, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = memory.embedder.encode(["I lost my card"])[0]
    monkeypatch.setattr(memory.embedder, "encode", None)
    memory.for_user("CUST001").store("I lost my card", "Frozen.", "lost_or_stolen_card", vector=vector)
    match = memory.semantic_search("I lost my card", user_id="CUST001", vector=vector)[0]
    assert match.score == pytest.approx(1, abs=1e-6)


def test_a_reply_is_optional_but_limited_in_length(memory: VectorService) -> None:
    memory.for_user("CUST001").store_many([Message("hello")])
    assert memory.semantic_search("hello", user_id="CUST001")[0].metadata["assistant_response"] == ""
    with pytest.raises(UsageError, match="assistant_response has 4001 characters"):
        memory.for_user("CUST001").store("hello", "x" * 4001, "greeting")


def test_a_store_of_another_embedder_is_rejected(embedder: Embedder) -> None:
    with (
        closing(SQLiteStore(None, 8, "other@4567")) as store,
        pytest.raises(UsageError, match="holds vectors of other@4567"),
    ):
        VectorService(store, embedder)


def test_a_key_replicates_the_memory_to_pinecone(
    embedder: Embedder, server: PineconeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINECONE_API_KEY", API_KEY)
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", server.url)
    monkeypatch.setenv("PINECONE_INDEX_NAME", "assistant")
    with open_service(tmp_path / "memory.sqlite", embedder=embedder) as service:
        service.for_user("CUST001").store("I lost my card", "Frozen.", "lost_or_stolen_card")
        drain(service.store)
        assert (service.backlog(), service.store.remote, service.store.count()) == ((0, 0.0), True, 1)
    assert [len(records) for records in server.namespaces.values()] == [1]
    assert list(server.indexes) == ["assistant"]
