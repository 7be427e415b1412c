"""The guard finds most faults of labelled replies, and lets true ones pass."""

import json
from pathlib import Path

import pytest

from bankllm.assistant.wording.assertions import Claims

REPLIES = Path(__file__).parents[3] / "benchmarks" / "data" / "guard_replies.jsonl"
ACCOUNTS = ["Everyday ending 0101: balance £312.08", "Rainy day ending 0102: balance £4,250.00"]


def test_most_faults_are_found_and_true_replies_pass() -> None:
    rows = [json.loads(line) for line in REPLIES.read_text("utf-8").splitlines()]
    faulty = [(row["label"] != "true", bool(Claims(row["facts"]).faults(row["reply"]))) for row in rows]
    assert len(rows) >= 300
    assert sum(found for fault, found in faulty if fault) >= 0.95 * sum(fault for fault, _ in faulty)
    assert sum(found for fault, found in faulty if not fault) <= 0.05 * sum(not fault for fault, _ in faulty)


@pytest.mark.parametrize(
    ("reply", "faults"),
    [
        ("Everyday has £312.08 and Rainy day £4,250.00.", []),
        ("You have £4,250.00 in Rainy day, and £312.08 in Everyday.", []),
        ("Everyday and Rainy day hold £312.08 and £4,250.00.", []),
        ("Everyday has £4,250.00 and Rainy day £312.08.", ["swapped"]),
        ("Everyday and Rainy day hold £4,250.00 and £312.08.", ["swapped"]),
        ("Everyday has £312.08.", ["dropped"]),
        ("Everyday is overdrawn by £312.08, and Rainy day has £4,250.00.", ["negation"]),
        ("Everyday has £312.08, Rainy day £4,250.00. I have moved £50.00 for you.", ["figure", "promise"]),
    ],
)
def test_each_fault_is_named(reply: str, faults: list[str]) -> None:
    assert Claims(ACCOUNTS).faults(reply) == faults


def test_an_offer_of_the_facts_may_be_repeated() -> None:
    article = ["About “Direct debits”: We will refund a wrong direct debit in full."]
    assert Claims(article).faults("We will refund a wrong direct debit in full.") == []
    assert Claims(["About “Direct debits”: They leave in the morning."]).faults("We will refund it.") == ["promise"]
