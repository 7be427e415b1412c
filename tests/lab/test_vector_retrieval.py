"""Retrieval: places of the right texts per mode, their records, and the verdict on hybrid search."""

from pathlib import Path

import pytest

from bankllm.evidence.run import open_run
from bankllm.lab.vector_retrieval import METRICS, LabelledQuestion, compare_with_halves, measure, overview, rank, values
from bankllm.vectors.service import open_service
from tests.support.fake_embedder import fake_embedder

TEXTS = ["fee code CR-203", "my card is lost", "the card is gone", "open an account"]
LABELS = ["fee", "lost", "lost", "account"]


def test_places_of_right_texts_are_counted_per_mode() -> None:
    with open_service(embedder=fake_embedder()) as service:
        place = service.collection("texts")
        place.add(TEXTS, metadata=[{"label": label} for label in LABELS])
        questions = [LabelledQuestion("cr203", ["fee"], 1, "code"), LabelledQuestion("card", ["lost"], 2, "name")]
        vectors = service.embedder.encode([question.text for question in questions])
        code, card = rank(place, questions, vectors, "label")
        assert (code["question"], code["kind"], code["relevant"], code["lexical"]) == (0, "code", 1, "1")
        assert (card["lexical"], card["relevant"]) == ("1 2", 2)
        assert len(str(card["dense"]).split()) == len(str(card["hybrid"]).split()) == 2
        _, card = rank(place, questions, vectors, "label", once=True)
        assert card["lexical"] == "1"


@pytest.mark.parametrize(("hybrid", "verdict"), [("1", "hybrid is higher"), ("9", "hybrid is lower"), ("2", "equal")])
def test_the_verdict_compares_hybrid_with_the_better_half(tmp_path: Path, hybrid: str, verdict: str) -> None:
    run = open_run("04_vector_search", "smoke", tmp_path)
    ranks = {"dense": "2", "lexical": "5", "hybrid": hybrid}
    run.write_rows("made", [{"question": n, "kind": "code", "relevant": 1, **ranks} for n in range(40)])
    measure(run, "made", "made rows", kinds=("code",))
    records = run.records()
    assert len(records) == 3 * 2 * len(METRICS) + 4
    assert all(record.valid for record in records)
    assert values(records, "made", "recall_5", "code")["dense"][0] == 1
    (row,) = compare_with_halves(records, {"made": "Made"})
    assert (row["questions"], row["better half"], row["verdict"]) == ("Made", "dense", verdict)
    dense, *_ = overview(records, {"made": "Made"})
    assert (dense["mode"], dense["Recall@1"], dense["MRR@10"]) == ("dense", "0.0 (0.0–8.8)", "50.0 (50.0–50.0)")
