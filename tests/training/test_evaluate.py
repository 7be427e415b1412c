"""The evaluation sets never contain trained intents by mistake, and the rows can be read by the statistics."""

from dataclasses import replace
from pathlib import Path

import pytest

from bankllm import datasets
from bankllm.datasets import Dataset, Split
from bankllm.datasets.teller77 import banking77_labels
from bankllm.errors import UsageError
from bankllm.evidence.records import write_rows
from bankllm.evidence.run import Run
from bankllm.training.config import TrainConfig
from bankllm.training.evaluate import confused_pairs, evaluate, hold_out, question_sets
from bankllm.training.train import TrainResult, train


@pytest.fixture(scope="module")
def data() -> Dataset:
    return datasets.load("teller77").first_intents(8)


@pytest.fixture(scope="module")
def result(data: Dataset) -> TrainResult:
    return train(TrainConfig(method="probe"), data, progress=False)


def test_a_model_of_banking77_is_evaluated_on_all_of_teller77(banking77: Path) -> None:
    data, teller = datasets.load("banking77"), datasets.load("teller77")
    test, unseen_wording, far = question_sets(data)
    assert [s.name for s in (test, unseen_wording, far)] == ["test", "teller77", "out_of_scope"]
    assert (test.texts, len(test.actual)) == (data.test.texts, 3080)
    assert set(unseen_wording.actual) == set(data.label_names)
    assert set(unseen_wording.texts) <= set(teller.test.texts)
    assert len(far.texts) >= 200
    assert set(far.actual) == {"out_of_scope"}


def test_trained_teller77_intents_are_not_in_the_teller77_set(banking77: Path) -> None:
    """Teller77 itself gets neither extra set. The assistant was trained on Teller77 texts of only 7 intents, so the
    set `teller77` contains the other 77 intents.
    """
    assert [s.name for s in question_sets(datasets.load("teller77"))] == ["test"]
    assert [s.name for s in question_sets(datasets.load("teller77").first_intents(8))] == ["test", "out_of_scope"]
    test, unseen_wording = question_sets(datasets.load("assistant"))
    assert (test.name, unseen_wording.name) == ("test", "teller77")
    assert set(unseen_wording.actual) == set(banking77_labels())


def test_the_statistics_can_read_the_rows(data: Dataset, result: TrainResult, run: Run) -> None:
    known = [data.test.texts[3].upper() + "??", data.test.texts[5].replace(" ", "  "), f"{data.test.texts[7]} x"]
    labels = (*data.train.labels, *[0] * len(known))
    with_duplicates = replace(data, train=Split((*data.train.texts, *known), labels))
    rows = evaluate(result, with_duplicates)
    sets = {name: [row for row in rows if row["set"] == name] for name in ("test", "out_of_scope")}
    assert len(sets["test"]) + len(sets["out_of_scope"]) == len(rows)
    assert [row["text_id"] for row in sets["out_of_scope"]] == list(range(len(sets["out_of_scope"])))
    assert [row["text_id"] for row in sets["test"] if row["near_duplicate"] == "yes"] == [3, 5]
    assert {row["in_scope"] for row in sets["out_of_scope"]} == {"no"}
    shown = [{key: row[key] for key in ("text_id", "actual", "predicted")} for row in sets["test"]]
    assert shown == [{key: row[key] for key in ("text_id", "actual", "predicted")} for row in result.predictions]

    run.write_rows("answers", rows)
    measured = {
        statistic: run.measure(statistic, statistic, "answers", title="t", unit="share", **options)
        for statistic, options in {
            "accuracy": {"where": {"set": "test", "near_duplicate": "no"}},
            "recall_at_false_rejects": {},
            "auroc": {"column": "set", "inside": "test", "outside": "out_of_scope"},
        }.items()
    }
    assert measured["accuracy"].n == len(data.test) - 2
    assert measured["recall_at_false_rejects"].n == len(sets["out_of_scope"])
    assert 0.8 < (measured["auroc"].value or 0) <= 1


@pytest.mark.slow
def test_held_out_intents_are_evaluated_but_not_trained(data: Dataset, result: TrainResult) -> None:
    known, held_out = hold_out(data, count=3, seed=1)
    assert known.name == "teller77[8 intents][3 intents held out, seed 1]"
    assert len(known.label_names) == 5
    removed = set(data.label_names) - set(known.label_names)
    assert set(held_out.actual) == removed
    assert len(held_out.texts) + len(known.test) == len(data.test)
    assert not set(held_out.texts) & set(known.test.texts)
    assert hold_out(data, 3, seed=1)[1] == held_out
    assert any(hold_out(data, 3, seed)[1] != held_out for seed in range(2, 6))

    with pytest.raises(UsageError, match=r"has 8 labels and teller77\[8 intents\]\[3 .* has 5"):
        evaluate(result, known)
    trained = train(TrainConfig(method="probe"), known, progress=False)
    rows = [row for row in evaluate(trained, known, held_out) if row["set"] == "held_out"]
    assert [row["actual"] for row in rows] == list(held_out.actual)
    assert {row["in_scope"] for row in rows} == {"no"}
    assert not removed & {row["predicted"] for row in rows}


def test_out_of_scope_is_never_held_out_and_two_intents_must_remain(data: Dataset) -> None:
    small = datasets.load("teller77").select(("out_of_scope", "greeting", "goodbye", "human_agent"), "4")
    assert all("out_of_scope" in hold_out(small, 1, seed)[0].label_names for seed in range(10))
    with pytest.raises(UsageError, match=r"2 intents cannot be held out of teller77\[4\], which has 3: .*from 1 to 1"):
        hold_out(small, 2)
    with pytest.raises(UsageError, match="0 intents cannot be held out"):
        hold_out(data, 0)


def test_confused_pairs_count_errors_in_both_directions(tmp_path: Path) -> None:
    mistakes = [("pin", "card")] * 3 + [("card", "pin")] * 2 + [("fee", "rate")] * 4 + [("cash", "fee")]
    rows = [{"actual": a, "predicted": p} for a, p in [*mistakes, ("pin", "pin"), ("fee", "fee")]]
    pairs = confused_pairs(rows)
    assert pairs == [
        {"intent_a": "pin", "intent_b": "card", "a_as_b": 3, "b_as_a": 2, "errors": 5},
        {"intent_a": "fee", "intent_b": "rate", "a_as_b": 4, "b_as_a": 0, "errors": 4},
        {"intent_a": "cash", "intent_b": "fee", "a_as_b": 1, "b_as_a": 0, "errors": 1},
    ]
    assert confused_pairs(reversed(rows), top=2) == pairs[:2]
    write_rows(tmp_path / "pairs.csv", pairs)
    even = confused_pairs([{"actual": "b", "predicted": "a"}, {"actual": "a", "predicted": "b"}])
    assert [(pair["intent_a"], pair["intent_b"]) for pair in even] == [("a", "b")]
    assert confused_pairs([{"actual": "a", "predicted": "a"}]) == []
