"""The study that chose the defaults can be run again, and what is kept of it fits the code."""

from dataclasses import replace

from bankllm.datasets import load
from bankllm.training.config import TrainConfig
from bankllm.training.study import CANDIDATES, START, compare, kept
from tests.test_training_train import shortest


def test_candidates_are_compared_on_validation_texts_alone():
    whole = load("teller77").first_intents(3)
    data = replace(whole, train=shortest(whole.train, 10), test=shortest(whole.test, 2))
    told: list[dict[str, object]] = []
    some = {"start: one pass": {"epochs": 1}, "no adapter (linear probe)": {"method": "probe"}}
    rows = compare(data, some, told.append)
    assert rows == told
    assert [row["candidate"] for row in rows] == list(some)
    for row in rows:
        assert row["texts"] == 3  # a tenth of each intent's ten training texts; the test split has six
        assert float(str(row["validation accuracy"])) in (0.0, 0.3333, 0.6667, 1.0)


def test_every_candidate_is_a_configuration_and_was_tried():
    for options in CANDIDATES.values():
        TrainConfig.model_validate(options)
    rows = kept()
    assert [row["candidate"] for row in rows] == list(CANDIDATES)
    assert {row["texts"] for row in rows} == {"1003"}
    accuracies = {row["candidate"]: float(row["validation accuracy"]) for row in rows}
    chosen = TrainConfig.model_validate({**START, **CANDIDATES["adapter rate 4e-3 (chosen)"]})
    assert chosen == TrainConfig(top_layers=3)  # MiniLM's upper half
    assert max(accuracies, key=lambda name: accuracies[name]) == "adapter rate 4e-3 (chosen)"
