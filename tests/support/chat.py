"""Chat requests, expected error responses, and deterministic fakes of classifier and embedder."""

import json
from types import SimpleNamespace

import numpy as np

from bankllm.assistant.bank.ledger import open_bank
from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.wording.responders.template import TemplateResponder
from bankllm.model.artifact import Scores
from bankllm.vectors.service import VectorService
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.fake_embedder import fake_embedder

BALANCE = {"message": "What is my account balance?", "customer_id": "CUST001"}
JSON = {"content-type": "application/json"}
LOCAL = "http://127.0.0.1"
"""Address for a TestClient of a server without tokens."""


class KeywordClassifier:
    """Classifies a text with "balance" as `account_balance`, every other text as `card_arrival`."""

    label_names = ("account_balance", "card_arrival")
    artifact = SimpleNamespace(
        label_names=label_names, threshold=0.0, base_model="keywords", method="none", base_sha256=None
    )

    def score(self, texts, batch_size=64):
        sure = [[0.9, 0.1] if "balance" in text else [0.2, 0.8] for text in texts]
        return Scores(np.array(sure), np.ones((len(texts), 4)))


def fake_engine(store=None):
    """A chat engine with fakes of classifier and embedder; ledger, responder and store (in memory) are real."""
    embedder = fake_embedder()
    memory = VectorService(store or SQLiteStore(None, embedder.dim, embedder.model_id), embedder)
    return ChatEngine(KeywordClassifier(), memory, open_bank(), TemplateResponder())


def assert_problem(response, status, *words):
    body = response.json()
    assert response.status_code == body["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    assert body["request_id"] == response.headers["x-request-id"]
    assert set(body) == {"type", "title", "status", "detail", "request_id", "errors"}
    assert all(word in json.dumps(body) for word in words), body
    return body
