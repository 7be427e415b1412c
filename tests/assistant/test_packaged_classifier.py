"""The classifier that the package carries is small, its evidence holds, and ordinary questions get the right intent."""

import numpy as np
import pytest

from bankllm.assistant.runtime import DEFAULT_ADAPTER, embeds_as_base
from bankllm.datasets import load
from bankllm.evidence.records import read_records
from bankllm.evidence.verification.verify import verify
from bankllm.model.torch_classifier import IntentClassifier

CONFIDENT = {
    "What is my account balance?": "account_balance",
    "how much money do I have": "account_balance",
    "Show me my last three transactions": "recent_transactions",
    "hello there": "greeting",
    "I want to talk to a real person": "human_agent",
    "My new card still has not arrived": "card_arrival",
}


@pytest.fixture(scope="module")
def classifier() -> IntentClassifier:
    return IntentClassifier.load(DEFAULT_ADAPTER)


def test_it_is_a_head_on_the_base_model_with_evidence_that_holds(classifier):
    artifact = classifier.artifact
    assert embeds_as_base(artifact), "one pass gives intent and embedding"
    assert artifact.training["dataset"] == "assistant(banking77+teller77)"
    assert sum(path.stat().st_size for path in DEFAULT_ADAPTER.rglob("*") if path.is_file()) < 1_000_000
    verdict = verify(DEFAULT_ADAPTER)
    assert verdict.holds, verdict.findings
    records = {record.id: record for record in read_records(DEFAULT_ADAPTER)}
    assert records["accuracy"].n == artifact.training["test_rows"]
    card = (DEFAULT_ADAPTER / "README.md").read_text(encoding="utf-8")
    assert "license: cc-by-4.0" in card
    assert "PolyAI" in card


@pytest.mark.parametrize(("text", "intent"), CONFIDENT.items())
def test_ordinary_questions(classifier, text, intent):
    (answer,) = classifier.predict([text])
    assert (answer.intent, answer.abstains) == (intent, False)


def test_questions_that_are_none_of_its_business_are_not_answered(classifier):
    far = load("teller77").select(("out_of_scope",), "far").test.texts  # it learnt from the others
    answers = classifier.predict(far)
    declined = np.mean([answer.intent == "out_of_scope" or answer.abstains for answer in answers])
    assert declined >= 0.9, [(t, a) for t, a in zip(far, answers, strict=True) if not a.abstains]
    balance = load("teller77").select(("account_balance",), "balance").test.texts
    right = np.mean([answer.intent == "account_balance" for answer in classifier.predict(balance)])
    assert right >= 0.7  # of 16, some of which name neither money nor an account
