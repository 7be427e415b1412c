"""Chats whose encodings arrive together are finished in one batch. A failed or unclear chat affects only itself."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from bankllm.assistant.reply_batcher import ReplyBatcher


class Engine:
    """Answers `x` with `X` and records each batch; `!` fails, and `?` cannot be answered in a batch."""

    def __init__(self, answers_together: bool = True) -> None:
        self.answers_together = answers_together
        self.together: list[list[str]] = []
        self.alone: list[str] = []
        self.refuses: str | None = None

    def finish_together(self, exchanges: Sequence[str]) -> list[Any]:
        self.together.append(list(exchanges))
        if self.refuses in exchanges:
            raise ValueError(self.refuses)
        return [ValueError(x) if "!" in x else None if "?" in x else x.upper() for x in exchanges]

    def finish(self, exchange: str) -> str:
        self.alone.append(exchange)
        if exchange == self.refuses:
            raise ValueError(exchange)
        return exchange.upper()


def answers(engine: Engine, *exchanges: str) -> list[Any]:
    async def all_at_once() -> list[Any]:
        reply_batcher: Any = ReplyBatcher()
        return await asyncio.gather(*(reply_batcher.finish(engine, x) for x in exchanges), return_exceptions=True)

    return [str(found) for found in asyncio.run(all_at_once())]


def test_chats_that_are_ready_together_are_finished_together() -> None:
    engine = Engine()
    assert answers(engine, "a", "b", "c") == ["A", "B", "C"]
    assert (engine.together, engine.alone) == ([["a", "b", "c"]], [])


def test_a_failed_or_unclear_chat_affects_only_itself() -> None:
    engine = Engine()
    assert answers(engine, "a", "!b", "c?", "d") == ["A", "!b", "C?", "D"]
    assert engine.alone == ["c?"]


def test_if_the_batch_fails_each_chat_is_finished_singly() -> None:
    engine = Engine()
    engine.refuses = "b"
    assert answers(engine, "a", "b", "c") == ["A", "b", "C"]
    assert sorted(engine.alone) == ["a", "b", "c"]


def test_an_engine_that_may_wait_finishes_each_chat_singly() -> None:
    engine = Engine(answers_together=False)
    assert answers(engine, "a", "b") == ["A", "B"]
    assert (engine.together, sorted(engine.alone)) == ([], ["a", "b"])


def test_a_cancelled_chat_does_not_affect_the_others() -> None:
    engine = Engine()

    async def one_leaves() -> str:
        reply_batcher: Any = ReplyBatcher()
        leaving = asyncio.ensure_future(reply_batcher.finish(engine, "a"))
        staying = asyncio.ensure_future(reply_batcher.finish(engine, "b"))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return await staying

    assert asyncio.run(one_leaves()) == "B"
    assert engine.together == [["a", "b"]]
