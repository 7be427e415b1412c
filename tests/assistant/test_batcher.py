"""Batches form under load, hold their order, and a fault stays with its own request."""

import threading
from contextlib import closing

import pytest

from bankllm.assistant.batcher import Batcher, Overloaded


class Encoder:
    """Upper-cases; holds its first batch until `go`, so that others have to wait."""

    def __init__(self):
        self.batches, self.busy, self.go = [], threading.Event(), threading.Event()

    def __call__(self, texts):
        self.batches.append(list(texts))
        self.busy.set()
        assert self.go.wait(60)
        if "bad" in texts:
            raise ValueError("cannot encode bad")
        return [text.upper() for text in texts]


@pytest.fixture
def encoder():
    return Encoder()


def ask_while_busy(batcher, encoder, texts, then=lambda futures: None):
    """The outcomes of `texts`, which are submitted while `first` is under way."""
    first = batcher.submit("first")
    assert encoder.busy.wait(60)
    futures = [batcher.submit(text) for text in texts]
    then(futures)
    encoder.go.set()
    assert first.result(60) == "FIRST"
    return [None if future.cancelled() else future.exception(60) or future.result() for future in futures]


def test_what_waits_shares_passes_in_its_order(encoder):
    sizes = []
    texts = ["a long one", "b", "another long one", "c", "last"]
    with closing(Batcher(encoder, 2, observe=sizes.append)) as batcher:
        outcomes = ask_while_busy(batcher, encoder, texts)
    assert outcomes == [text.upper() for text in texts]
    assert encoder.batches == [["first"], texts[:2], texts[2:4], texts[4:]]
    assert sizes == [1, 2, 2, 1]


def test_what_is_put_first_goes_before_what_waits(encoder):
    with closing(Batcher(encoder, 1)) as batcher:
        ask_while_busy(batcher, encoder, ["a", "b"], then=lambda _: batcher.submit("again", first=True))
    assert encoder.batches == [["first"], ["again"], ["a"], ["b"]]


def test_several_threads_share_what_waits(encoder):
    encoder.go.set()
    texts = [str(number) for number in range(100)]
    with closing(Batcher(encoder, 8, threads=3)) as batcher:
        assert [future.result(60) for future in list(map(batcher.submit, texts))] == texts


def test_cancelled_texts_are_skipped(encoder):
    with closing(Batcher(encoder, 8)) as batcher:
        outcomes = ask_while_busy(batcher, encoder, ["stays", "leaves"], then=lambda futures: futures[1].cancel())
    assert outcomes == ["STAYS", None]
    assert encoder.batches == [["first"], ["stays"]]


def test_a_fault_stays_with_its_own_request(encoder):
    with closing(Batcher(encoder, 8)) as batcher:
        good, bad, other = ask_while_busy(batcher, encoder, ["good", "bad", "other"])
        assert batcher.submit("after").result(60) == "AFTER"
    assert (good, other) == ("GOOD", "OTHER")
    assert isinstance(bad, ValueError)
    assert str(bad) == "cannot encode bad"


def test_a_full_queue_refuses_at_once(encoder):
    def one_too_many(_):
        with pytest.raises(Overloaded, match="Too many requests are waiting"):
            batcher.submit("third")

    with closing(Batcher(encoder, 8, max_waiting=2)) as batcher:
        assert ask_while_busy(batcher, encoder, ["a", "b"], then=one_too_many) == ["A", "B"]


@pytest.mark.timeout(120)
def test_closing_answers_what_waits_and_refuses_the_rest(encoder):
    batcher = Batcher(encoder, 8)
    closer, late = threading.Thread(target=batcher.close), []

    def submit_until_refused():
        while True:
            late.append(batcher.submit("late"))
            closer.join(0.01)

    def close_and_ask(_):
        closer.start()
        with pytest.raises(Overloaded, match="shutting down"):
            submit_until_refused()

    (outcome,) = ask_while_busy(batcher, encoder, ["waiting"], then=close_and_ask)
    closer.join(60)
    assert not closer.is_alive()
    assert outcome == "WAITING"
    assert {future.result(60) for future in late} <= {"LATE"}
    batcher.close()  # again is no error
