"""`Dataset` and `Split` refuse invalid content, and a selection cannot be mistaken for the whole set."""

import pytest

from bankllm.datasets import Dataset, Split
from bankllm.errors import DataError


@pytest.mark.parametrize(
    ("labels", "split", "message"),
    [
        (("a", "b"), Split(("one", " \n"), (0, 1)), r"d, train text 1 \(counted from 0\): expected a non-blank text"),
        (("a", "b"), Split(("one", None), (0, 1)), r"train text 1 .*expected a non-blank text, got None"),  # type: ignore[arg-type]
        (("a", "b"), Split(("one", "two"), (0, 2)), r"train text 1 .*a label from 0 to 1 .*got 2"),
        (("a", "b"), Split(("one",), (-1,)), r"train text 0 .*got -1"),
        (("a", "b"), Split(("one",), ("a",)), r"train text 0 .*a position in label_names\), got 'a'"),  # type: ignore[arg-type]
        (("a", "a"), Split(("one",), (0,)), r"d: label names must be unique, got a, a"),
    ],
)
def test_an_invalid_dataset_is_refused(labels: tuple[str, ...], split: Split, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset("d", labels, split, Split((), ()), {}, "here")
    with pytest.raises(DataError, match=message.replace("train", "test")):
        Dataset("d", labels, Split((), ()), split, {}, "here")


def test_a_selection_has_a_suffix_in_its_name() -> None:
    data = Dataset("d", ("a", "b", "c"), Split(("1", "2", "3"), (0, 1, 2)), Split(("4", "5"), (2, 0)), {}, "here")
    some = data.first_intents(2)
    assert some.name == "d[2 intents]"
    assert (some.train, some.test) == (Split(("1", "2"), (0, 1)), Split(("5",), (0,)))
    assert data.first_intents(None) is data.first_intents(3) is data
    picked = data.select(("c", "a"), "picked")
    assert picked.test == Split(("4", "5"), (0, 1))
