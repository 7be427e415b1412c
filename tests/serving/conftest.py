"""Fixtures of the serving tests."""

from collections.abc import Iterator

import pytest

from bankllm.assistant.bank.ledger import open_bank
from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.wording.responders.template import TemplateResponder
from bankllm.loadtest.server_process import ServerProcess
from bankllm.vectors.service import VectorService
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.chat import KeywordClassifier, LetterEmbedder
from tests.support.live_server import guarded, logged


@pytest.fixture
def engine() -> Iterator[ChatEngine]:
    """A chat engine with fakes of classifier and embedder; store, ledger and responder are real."""
    embedder = LetterEmbedder()
    memory = VectorService(SQLiteStore(None, embedder.dim, embedder.model_id), embedder)
    with ChatEngine(KeywordClassifier(), memory, open_bank(), TemplateResponder()) as made:
        yield made


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with tokens and without a rate limit, for all modules. At the end its log must contain no errors."""
    folder = tmp_path_factory.mktemp("server")
    with guarded(folder) as running:
        yield running
    assert running.returncode == 0
    assert logged(folder / "server.log", "ERROR") == []
