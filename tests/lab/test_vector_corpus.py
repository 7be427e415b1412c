"""The corpus in a vector service: no duplicates, every text in both scopes, and scopes with the ids of their rows."""

import numpy as np
import pytest

from bankllm.datasets import Dataset, Split, load, normalise
from bankllm.lab.vector_corpus import LabelledText, fill, gather
from bankllm.vectors.service import open_service
from tests.support.fake_embedder import fake_embedder


def test_no_text_is_duplicated_or_missing() -> None:
    data = load("teller77")
    texts = gather(data)
    normalised = [normalise(text.text) for text in texts]
    assert len(normalised) == len(set(normalised))
    assert set(normalised) == {normalise(text) for text in (*data.train.texts, *data.test.texts)}
    assert texts == gather(data)
    assert [text.split for text in texts] != sorted(text.split for text in texts)  # shuffled


def test_the_label_of_the_main_data_set_is_kept_and_teller77_is_added() -> None:
    teller = load("teller77")
    known = teller.train.texts[0]
    own = Dataset(
        "own", ("mine",), Split((known.upper(), "my very own"), (0, 0)), Split(("My very own!",), (0,)), {}, "test"
    )
    texts = {normalise(text.text): text for text in gather(own)}
    assert texts[normalise(known)] == LabelledText(known.upper(), "mine", "own", "train")
    assert texts["my very own"].split == "train"
    assert len(texts) == len(gather(teller)) + 1
    assert {text.dataset for text in gather(teller.first_intents(2))} == {"teller77[2 intents]"}


def test_each_text_is_stored_twice_and_its_scope_has_its_id() -> None:
    texts = gather(load("teller77"))[:23]
    embedder = fake_embedder()
    vectors = embedder.encode([text.text for text in texts])
    with open_service(embedder=embedder) as service:
        memory = fill(service, texts, vectors)
        assert service.store.count() == 46
        assert sorted(memory.everything.ids.values()) == list(range(23))
        assert sorted(at for place in memory.customers for at in place.ids.values()) == list(range(23))
        assert sum(int(str(row["vectors"])) for row in memory.rows if row["scope"] == "customer") == 23
        for place in (memory.everything, *memory.customers):
            (match,) = place.search(service, "anything", 1, np.asarray(vectors[(at := min(place.ids.values()))]))
            assert (place.ids[match.id], match.text) == (at, texts[at].text)
            assert match.metadata["intent"] == texts[at].intent
            assert match.score == pytest.approx(1)
