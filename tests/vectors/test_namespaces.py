"""Customer memories and shared collections: access to one namespace only, and clear errors for invalid input."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import DataError, StoreError, UsageError
from bankllm.util.redaction import mask
from bankllm.vectors import namespaces
from bankllm.vectors.namespaces import Collection, CustomerMemory, Message
from bankllm.vectors.service import VectorService, open_service
from tests.support.fake_embedder import DIM, fake_embedder, vectors
from tests.support.store_model import bytes_beside


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


def test_a_memory_accesses_only_its_customer(service: VectorService, memory: CustomerMemory) -> None:
    first = memory.store("I lost my card", "Frozen.", "lost_or_stolen_card", conversation_id="talk-1")
    assert len(memory.store_many([Message("hello"), Message("good bye", "Bye!", "goodbye")])) == 2
    assert memory.store_many([]) == []
    service.for_user("CUST002").store("I lost my card", "Frozen.", "lost_or_stolen_card")
    assert [match.id for match in memory.search("i lost MY card", 1)] == [first]
    assert len(memory.search("card", 100)) == 3
    assert [turn.user_message for turn in memory.recent(2)] == ["good bye", "hello"]
    turn = json.loads(json.dumps(memory.export()))[0]
    assert turn.pop("created_at") > "2026"
    said = {"user_message": "I lost my card", "assistant_response": "Frozen.", "intent": "lost_or_stolen_card"}
    assert turn == said | {"message_id": first, "conversation_id": "talk-1"}
    memory.forget([first, "unknown"])
    assert [turn["user_message"] for turn in memory.export()] == ["hello", "good bye"]
    memory.forget()
    assert memory.export() == []
    assert service.embedder._cache.currsize == 0
    assert service.for_user("CUST002").recent(5)[0].user_message == "I lost my card"


def test_adding_the_same_texts_again_creates_no_second_row(intents: Collection) -> None:
    first = intents.add(["a b", "c d", "a b"], metadata=[{"n": 1}, {"n": 2}, {"n": 3}])
    assert first[0] == first[2] != first[1]
    assert intents.add(["a b", "c d", "e f"])[:2] == first[:2]
    assert intents.count() == 3
    assert intents.add([]) == []


def test_a_search_needs_either_a_customer_or_a_collection(service: VectorService) -> None:
    with pytest.raises(UsageError, match=r"got neither. Give user_id='CUST001' or collection='intents'"):
        service.semantic_search("card")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"got both. Give user_id='CUST001' or collection='intents'"):
        service.semantic_search("card", user_id="CUST001", collection="intents")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="Expected a user_id of 1–128"):
        service.semantic_search("card", user_id="")
    with pytest.raises(UsageError, match="Expected a collection name of 1–128"):
        service.semantic_search("card", collection="")


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "tab\t", "naïve", "💳", "__default__", "x" * 129, None, 7])
def test_invalid_names_are_rejected(service: VectorService, name: str) -> None:
    for what, open_namespace in (("user_id", service.for_user), ("collection name", service.collection)):
        with pytest.raises(UsageError, match=f"Expected a {what} of 1–128 printable ASCII characters without spaces"):
            open_namespace(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: expected 1–4000 characters"),
        (" \n\t", "is empty"),
        (None, "is empty"),
        ("x" * 100_000, "has 100000 characters: expected at most 4000. Shorten or split the text"),
    ],
)
def test_invalid_texts_are_rejected(
    service: VectorService, memory: CustomerMemory, intents: Collection, text: str, message: str
) -> None:
    with pytest.raises(UsageError, match=f"user_message {message}"):
        memory.store(text, "", "")
    of_documents = message.replace("4000", "16000")
    with pytest.raises(UsageError, match=f"text 1 {of_documents}"):
        intents.add(["good", text])
    for search in (memory.search, intents.search):
        with pytest.raises(UsageError, match=f"query {of_documents}"):
            search(text)
    assert service.store.count() == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"texts": "one text"}, "add expects a list of texts"),
        ({"texts": ["a"], "metadata": []}, "the same number of metadata as texts: got 1 texts, 0 metadata"),
        ({"texts": ["a"], "vectors": np.ones((2, DIM))}, "the same number of vectors as texts: got 1 texts, 2 vectors"),
        ({"texts": ["a"], "metadata": [{"text": "x"}]}, "the metadata key 'text' is reserved"),
        ({"texts": ["a"], "metadata": [{"x": None}]}, "expected metadata 'x' to be a str, number, bool"),
        ({"texts": ["a"], "metadata": [{"x": "y" * 40_000}]}, "Text 0 and its metadata have 40010 bytes"),
        ({"texts": ["é" * 15_000], "metadata": [{"x": "y" * 9000}]}, "Text 0 and its metadata have 39009 bytes"),
        ({"texts": ["\ud83d"]}, "unpaired surrogate"),
    ],
)
def test_invalid_arguments_of_add_are_rejected(intents: Collection, given: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        intents.add(**given)
    assert intents.count() == 0


def test_a_closed_service_raises_and_can_be_closed_again(service: VectorService) -> None:
    service.close()
    service.close()
    with pytest.raises(StoreError, match="closed"):
        service.for_user("CUST001").store("hello", "", "")
    with pytest.raises(StoreError, match="closed"):
        service.semantic_search("hello", user_id="CUST001")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "cards.md").write_text("# Cards\n\nCards arrive soon.\n\n## Lost\n\nFreeze a lost card.")
    (folder / "fees.txt").write_text("Cash abroad costs 3.50.")
    return folder


def sources(collection: Collection) -> list[tuple[str, str, object]]:
    found = sorted(collection.search("card", 100), key=lambda match: match.id)
    return sorted((Path(str(m.metadata["source"])).name, m.text.splitlines()[-1], m.metadata["chunk"]) for m in found)


def test_documents_are_replaced_only_where_they_changed(service: VectorService, docs: Path) -> None:
    knowledge = service.collection("knowledge")
    done = knowledge.add_documents(docs)
    assert (done.chunks, done.added, done.removed, done.documents.read) == (3, 3, 0, 2)
    before = {match.text: match.created_at for match in knowledge.search("card", 100)}
    encoded = service.embedder.counts.misses

    assert knowledge.add_documents(docs).added == 0
    text = (docs / "cards.md").read_text()
    (docs / "cards.md").write_text(text.replace("# Cards", "# Cards\n\nNew: virtual cards.\n\n## Order", 1))
    (docs / "fees.txt").unlink()
    done = knowledge.add_documents(docs)
    assert (done.chunks, done.added, done.removed) == (3, 2, 2)
    assert service.embedder.counts.misses == encoded + 2
    assert sources(knowledge) == [
        ("cards.md", "Cards arrive soon.", 2),
        ("cards.md", "Freeze a lost card.", 3),
        ("cards.md", "New: virtual cards.", 1),
    ]
    kept = next(match for match in knowledge.search("card", 100) if "Freeze" in match.text)
    assert kept.created_at == before[kept.text]


def test_documents_leave_the_other_texts_of_the_collection(service: VectorService, docs: Path, tmp_path: Path) -> None:
    knowledge = service.collection("knowledge")
    (tmp_path / "docs2").mkdir()
    (tmp_path / "docs2" / "fees.txt").write_text("Cash abroad costs 3.50.")
    knowledge.add(["A text without a source."])
    knowledge.add_documents(tmp_path / "docs2")
    knowledge.add_documents(docs)
    assert knowledge.add_documents(docs / "fees.txt").removed == 0
    (docs / "fees.txt").write_text("Cash is free.")
    assert knowledge.add_documents(docs / "fees.txt").removed == 1
    assert knowledge.count() == 5


def test_a_document_with_a_fault_keeps_its_chunks(service: VectorService, docs: Path) -> None:
    knowledge = service.collection("knowledge")
    knowledge.add_documents(docs)
    (docs / "fees.txt").write_bytes(b"\xff\x00\xff")
    done = knowledge.add_documents(docs)
    assert (done.removed, list(done.documents.faults)) == (0, [str(docs / "fees.txt")])
    assert knowledge.count() == 3
    (docs / "cards.md").unlink()
    with pytest.raises(DataError, match=r"nothing was changed\. .*fees\.txt is no UTF-8 text"):
        knowledge.add_documents(docs)
    assert knowledge.count() == 3


def test_an_interrupted_call_is_completed_by_the_next(
    service: VectorService, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowledge = service.collection("knowledge")
    monkeypatch.setattr(namespaces, "COMMIT_CHUNKS", 1)
    encode = service.embedder.encode

    def interrupted(texts: list[str], progress: bool = False) -> np.ndarray:
        if "Freeze" in texts[0]:
            raise KeyboardInterrupt
        return encode(texts, progress)

    with monkeypatch.context() as patch:
        patch.setattr(service.embedder, "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            knowledge.add_documents(docs)
    assert knowledge.count() == 1
    assert knowledge.add_documents(docs).added == 2


def test_account_numbers_in_documents_are_masked(service: VectorService, docs: Path) -> None:
    (docs / "fees.txt").write_text("Pay to GB29 NWBK 6016 1331 9268 19.")
    knowledge = service.collection("knowledge")
    knowledge.add_documents(docs)
    assert not any("1331" in match.text for match in knowledge.search("pay", 100))
    assert knowledge.add_documents(docs).added == 0


CARD = "4111 1111 1111 1111"
MESSAGE = f"please block my card {CARD} 12/29 now"


def test_the_service_masks_all_stored_texts(tmp_path: Path) -> None:
    path, given = tmp_path / "memory.sqlite", vectors([MESSAGE])
    with open_service(path, embedder=fake_embedder()) as service:
        service.for_user("CUST001").store(MESSAGE, f"I block {CARD}.", "lost_or_stolen_card")
        service.for_user("CUST001").store_many([Message(MESSAGE, f"I block {CARD}.")], vectors=given)
        row = service.for_user("CUST001").row(Message(MESSAGE, f"I block {CARD}."), given[0])
        service.store.upsert("CUST001", [row])
        ids = service.collection("notes").add([MESSAGE, mask(MESSAGE)], metadata=[{"card": CARD}, {"all": [CARD]}])
        kept = [*service.store.export("CUST001"), *service.store.export("collection notes")]
    assert {row.text for row in kept} == {mask(MESSAGE)}
    assert ids[0] == ids[1]  # an id is a hash of the masked text
    for row in kept:
        np.testing.assert_allclose(row.vector, vectors([mask(MESSAGE)])[0], atol=1e-6)
    assert b"1111 1111" not in bytes_beside(path)
