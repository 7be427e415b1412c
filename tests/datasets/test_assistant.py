"""The training set of the served classifier, the licences of the data sets, and names that do not exist."""

from collections import Counter
from pathlib import Path

import pytest

from bankllm.datasets import Dataset, Split, licence, load
from bankllm.datasets.teller77 import ASSISTANT_INTENTS, intent_definitions
from bankllm.errors import DataError


def labelled(split: Split, data: Dataset) -> list[tuple[str, str]]:
    return [(text, data.label_names[label]) for text, label in zip(split.texts, split.labels, strict=True)]


def test_the_assistant_data_set_combines_banking77_and_teller77(banking77: Path) -> None:
    data, main, teller = load("assistant"), load("banking77"), load("teller77")
    assert data.name == "assistant(banking77+teller77)"
    assert set(data.label_names) == set(intent_definitions())
    for joined, published, packaged in ((data.train, main.train, teller.train), (data.test, main.test, teller.test)):
        own = [(text, label) for text, label in labelled(packaged, teller) if label in ASSISTANT_INTENTS]
        assert Counter(labelled(joined, data)) == Counter([*labelled(published, main), *own])


def test_without_banking77_it_is_teller77(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BANKLLM_BANKING77", raising=False)
    data = load("assistant")
    assert data.name == "assistant(teller77)"
    assert data.train == load("teller77").train


def test_selections_and_joined_sets_keep_the_licence_of_their_data_set() -> None:
    teller = load("teller77")
    for name in (teller.name, teller.first_intents(2).name, "assistant(teller77)"):
        found = licence(name)
        assert found is not None
        assert found.id == "cc0-1.0"
    for name in ("banking77", "banking77[validation 0.1, seed 0]", "assistant(banking77+teller77)"):
        found = licence(name)
        assert found is not None
        assert found.id == "cc-by-4.0"
        assert all(word in found.notice for word in ("PolyAI", "Casanueva et al., 2020", "2003.04807", "CC BY 4.0"))


def test_an_unknown_name_lists_the_names_that_exist() -> None:
    with pytest.raises(DataError, match=r"Unknown data set 'banking78'\. Expected one of .*banking77.* or a folder"):
        load("banking78")
