"""Masking the rows of an existing file: no byte of an account number remains, even if the command was killed."""

import signal
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bankllm import cli
from bankllm.errors import StoreError
from bankllm.util.redaction import mask
from bankllm.vectors import embedder as embedder_module
from bankllm.vectors.pinecone.outbox import OutboxStore
from bankllm.vectors.rows import Row
from bankllm.vectors.service import Message, VectorService
from bankllm.vectors.sqlite import masking
from bankllm.vectors.sqlite.masking import mask_rows
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.fake_embedder import DIM, fake_embedder, vectors
from tests.support.killed import run_until
from tests.support.store_model import EMBEDDER, bytes_beside, is_intact, sql

CARD = "4111 1111 1111 1111"
MESSAGE = f"please block my card {CARD} 12/29 now"
IN_CLEAR = [b"4111 1111", b"1111 1111", b"370400440532", b"536-22", b"5500005555555559"]
ROWS = 60


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "BATCH_ROWS", 7)


def row(number: int) -> Row:
    """Return a row; every third one contains account numbers: in its text, only in the reply, or in a list."""
    text, metadata = f"row {number}", {"assistant_response": "fine", "intent": "x"}
    if number % 9 == 0:
        text = f"{MESSAGE} ({number})"
    if number % 9 == 3:
        metadata["assistant_response"] = f"is it DE89 3704 0044 0532 0130 00 or 536-22-1234? {number}"
    if number % 9 == 6:
        metadata |= {"tags": ["x", "card 5500005555555559"], "number": 5500005555555559}
    return Row(f"m{number}", text, vectors([text])[0], metadata)


def fill(store: SQLiteStore) -> None:
    for number in range(ROWS):
        store.upsert(f"CUST{number % 3:03}", [row(number)])
    store.upsert("collection knowledge", [Row("k", f"example: {CARD}", vectors([CARD])[0])])


@pytest.fixture
def filled(path: Path) -> Path:
    """A file with `ROWS` rows of customers and one of a collection."""
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        fill(store)
    assert all(piece in path.read_bytes() for piece in IN_CLEAR if piece != b"370400440532")
    return path


def run(path: Path) -> tuple[int, int]:
    return mask_rows(path, vectors, DIM, EMBEDDER)


def state(path: Path) -> list[tuple]:
    return sql(path, "SELECT seq, namespace, id, created_at, text, metadata, vector FROM rows")


def assert_masked(path: Path, before: list[tuple]) -> None:
    after = state(path)
    assert [columns[:4] for columns in after] == [columns[:4] for columns in before]
    for old, new in zip(before, after, strict=True):
        assert new[4] == mask(old[4])
        if old[4] == new[4]:
            assert new[6] == old[6]
        else:
            np.testing.assert_allclose(np.frombuffer(new[6], "<f4"), vectors([new[4]])[0], atol=1e-6)
            assert old[6] not in bytes_beside(path)
    assert [piece for piece in [*IN_CLEAR, b"3704 0044"] if piece in bytes_beside(path)] == []
    assert is_intact(path)


def test_all_account_numbers_are_masked_and_nothing_else_changes(filled: Path, journal: str) -> None:
    before = state(filled)
    changed = 1 + sum(number % 3 == 0 for number in range(ROWS))
    assert run(filled) == (ROWS + 1, changed)
    assert_masked(filled, before)
    assert run(filled) == (ROWS + 1, 0)


def test_changed_rows_are_pushed_again(path: Path) -> None:
    with closing(OutboxStore(path, DIM, EMBEDDER, target="index")) as store:
        fill(store)
        while entries := [entry for entry, _ in store.next_entries()]:
            store.mark_upserted(entries)
    _, masked = run(path)
    with closing(OutboxStore(path, DIM, EMBEDDER, target="index")) as store:
        queued = [found for _, found in store.next_entries()]
        assert len(queued) == masked > 0
        assert all(found is not None and mask(found.text) == found.text for found in queued)


def test_rows_written_during_the_masking_are_masked_too(filled: Path) -> None:
    with closing(SQLiteStore(filled, DIM, EMBEDDER)) as store:
        calls = 0

        def embed_while_others_write(texts: list[str]) -> np.ndarray:
            nonlocal calls
            calls += 1
            if calls == 1:
                store.upsert("CUST000", [Row("m0", f"again {CARD}", vectors(["again"])[0], {"intent": "x"})])
                store.upsert("CUST000", [Row("late", f"late {CARD}", vectors(["late"])[0], {"intent": "x"})])
                store.delete("CUST000", ["m9"])
            return vectors(texts)

        mask_rows(filled, embed_while_others_write, DIM, EMBEDDER)
        texts = {found.id: found.text for found in store.export("CUST000")}
    assert texts["m0"] == "again [card …1111]"
    assert texts["late"] == "late [card …1111]"
    assert "m9" not in texts
    assert not [piece for piece in IN_CLEAR if piece in bytes_beside(filled)]


def test_unusable_files_and_unmaskable_names_are_errors(filled: Path, tmp_path: Path) -> None:
    before = state(filled)
    with pytest.raises(StoreError, match=r"holds vectors of test-embedder@0123 .*but this embedder is another@4567"):
        mask_rows(filled, vectors, DIM, "another@4567")
    assert state(filled) == before
    with pytest.raises(StoreError, match="There is no file"):
        run(tmp_path / "none.sqlite")
    with closing(SQLiteStore(filled, DIM, EMBEDDER)) as store:
        store.upsert("4111-1111-1111-1111", [row(1)])
    with pytest.raises(StoreError, match="1 customer or collection names look like account numbers") as error:
        run(filled)
    assert "4111" not in str(error.value)
    assert mask(row(0).text) in [columns[4] for columns in state(filled)]


def test_the_command_masks_and_prints_the_number_of_rows(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = fake_embedder()
    embedder.model_id = EMBEDDER
    monkeypatch.setattr(embedder_module, "Embedder", lambda *_, **__: embedder)
    result = CliRunner().invoke(cli.app, ["memory", "mask", "--store", str(filled)])
    assert result.exit_code == 0, result.output
    assert "61 rows checked, 21 masked" in result.output
    assert b"1111 1111" not in bytes_beside(filled)


def test_the_service_masks_all_stored_texts(path: Path) -> None:
    embedder = fake_embedder()
    given = vectors([MESSAGE])
    with VectorService(SQLiteStore(path, DIM, embedder.model_id), embedder) as service:
        service.store_message("CUST001", MESSAGE, f"I block {CARD}.", "lost_or_stolen_card")
        service.for_user("CUST001").store_many([Message(MESSAGE, f"I block {CARD}.")], vectors=given)
        row = service.for_user("CUST001").row(Message(MESSAGE, f"I block {CARD}."), given[0])
        service.store.upsert("CUST001", [row])
        ids = service.collection("notes").add([MESSAGE, mask(MESSAGE)], metadata=[{"card": CARD}, {"all": [CARD]}])
        kept = [*service.store.export("CUST001"), *service.store.export("collection notes")]
    assert {row.text for row in kept} == {mask(MESSAGE)}
    assert ids[0] == ids[1]  # an id is a hash of the masked text
    for row in kept:
        np.testing.assert_allclose(row.vector, vectors([mask(MESSAGE)])[0], atol=1e-6)
    assert not [trace for trace in IN_CLEAR if trace in bytes_beside(path)]


MASK = """
from bankllm.vectors.sqlite import masking
from tests.support.fake_embedder import DIM, vectors
masking.BATCH_ROWS = 7
masking.mask_rows(path, vectors, DIM, "test-embedder@0123")
"""


@pytest.mark.parametrize(
    ("moment", "times"),
    [("UPDATE rows", 1), ("UPDATE rows", 11), ("COMMIT", 6), ("VACUUM", 1), ("DELETE FROM meta", 1)],
)
def test_a_killed_masking_can_be_repeated(filled: Path, moment: str, times: int) -> None:
    before = state(filled)
    killed = run_until(filled, MASK, moment, times)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert run(filled)[0] == ROWS + 1
    assert_masked(filled, before)
