"""The study behind the defaults can be repeated, and its stored result matches the code."""

from dataclasses import replace

from bankllm.datasets import load
from bankllm.training.config import TrainConfig
from bankllm.training.study import CANDIDATES, START, compare, read_study
from tests.support.small_training import shortest


def test_candidates_are_compared_only_on_validation_texts():
    whole = load("teller77").first_intents(3)
    data = replace(whole, train=shortest(whole.train, 10), test=shortest(whole.test, 1))
    reported: list[dict[str, object]] = []
    some = {"start: one pass": {"epochs": 1}, "no adapter (linear probe)": {"method": "probe"}}
    rows = compare(data, some, reported.append)
    assert rows == reported
    assert [row["candidate"] for row in rows] == list(some)
    for row in rows:
        assert row["texts"] == 6  # a fifth of each intent's ten training texts; the test split has three
        assert float(str(row["validation accuracy"])) in (0.5, 0.6667, 0.8333, 1.0)


def test_every_candidate_is_a_valid_configuration_with_a_stored_result():
    for options in CANDIDATES.values():
        TrainConfig.model_validate(options)
    rows = read_study()
    assert [row["candidate"] for row in rows] == list(CANDIDATES)
    assert len({row["texts"] for row in rows}) == 1
    assert int(rows[0]["texts"]) > 1900
    chosen = next(name for name in CANDIDATES if name.startswith("kernel head"))
    assert TrainConfig.model_validate({**START, **CANDIDATES[chosen]}) == TrainConfig(top_layers=3)  # the upper half
    accuracies = {row["candidate"]: float(row["validation accuracy"]) for row in rows}
    # It is the default because no candidate is better by more than two standard errors.
    assert accuracies[chosen] > max(accuracies.values()) - 0.012
    assert accuracies[chosen] > max(value for name, value in accuracies.items() if "kernel" not in name)
