"""Batches form under load, hold their order, and a fault stays with its own request."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bankllm.serving.batcher import Batcher, Overloaded


class Encoder:
    """Upper-cases; holds its first batch until `go`, so that others have to wait."""

    def __init__(self):
        self.batches, self.busy, self.go = [], threading.Event(), threading.Event()

    def __call__(self, texts):
        self.batches.append(list(texts))
        self.busy.set()
        assert self.go.wait(10)
        if "bad" in texts:
            raise ValueError("cannot encode bad")
        return [text.upper() for text in texts]


@pytest.fixture
def encoder():
    return Encoder()


def ask_while_busy(batcher, encoder, texts, then=lambda: None):
    """Ask for `first`, and for `texts` while it is under way; the outcomes of `texts` in order."""
    with ThreadPoolExecutor(len(texts) + 1) as pool:
        first = pool.submit(batcher.process, "first")
        assert encoder.busy.wait(10)
        asked = []
        for position, text in enumerate(texts):
            asked.append(pool.submit(batcher.process, text))
            while batcher.waiting <= position and not asked[-1].done():
                pass  # so that they wait in this order
        then()
        encoder.go.set()
        assert first.result(10)[0] == "FIRST"
        return [future.exception(10) or future.result() for future in asked]


def test_what_waits_shares_the_next_pass_oldest_first(encoder):
    sizes = []
    with Batcher(encoder, max_batch=3, observe=sizes.append) as batcher:
        outcomes = ask_while_busy(batcher, encoder, ["a", "b", "c", "d"])
    assert [result for result, _ in outcomes] == ["A", "B", "C", "D"]
    assert encoder.batches == [["first"], ["a", "b", "c"], ["d"]]
    assert sizes == [1, 3, 1]
    assert all(waited > 0 for _, waited in outcomes)


def test_a_fault_stays_with_its_own_request(encoder):
    with Batcher(encoder) as batcher:
        good, bad, other = ask_while_busy(batcher, encoder, ["good", "bad", "other"])
        assert batcher.process("after")[0] == "AFTER"
    assert (good[0], other[0]) == ("GOOD", "OTHER")
    assert isinstance(bad, ValueError)
    assert str(bad) == "cannot encode bad"


def test_a_full_queue_refuses_at_once(encoder):
    refused = []

    def one_too_many():
        with pytest.raises(Overloaded, match="Too many requests are waiting"):
            batcher.process("third")
        refused.append(True)

    with Batcher(encoder, max_waiting=2) as batcher:
        outcomes = ask_while_busy(batcher, encoder, ["a", "b"], then=one_too_many)
    assert refused == [True]
    assert [result for result, _ in outcomes] == ["A", "B"]


def test_closing_answers_what_waits_and_refuses_the_rest(encoder):
    batcher = Batcher(encoder)
    closer = threading.Thread(target=batcher.close)

    def close_and_ask():
        closer.start()
        while not batcher._closed:
            pass
        with pytest.raises(Overloaded, match="shutting down"):
            batcher.process("late")

    (outcome,) = ask_while_busy(batcher, encoder, ["waiting"], then=close_and_ask)
    closer.join(10)
    assert not closer.is_alive()
    assert outcome[0] == "WAITING"
    batcher.close()  # again is no error
