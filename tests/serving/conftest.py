"""Fixtures of the serving tests."""

from collections.abc import Iterator

import pytest

from bankllm.assistant.bank.ledger import open_bank
from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.wording.responders.template import TemplateResponder
from bankllm.vectors.service import VectorService
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.chat import KeywordClassifier, LetterEmbedder


@pytest.fixture
def engine() -> Iterator[ChatEngine]:
    """A chat engine with fakes of classifier and embedder; store, ledger and responder are real."""
    embedder = LetterEmbedder()
    memory = VectorService(SQLiteStore(None, embedder.dim, embedder.model_id), embedder)
    with ChatEngine(KeywordClassifier(), memory, open_bank(), TemplateResponder()) as made:
        yield made
