"""Chats whose encodings come at once are finished together, and each fails, or goes a way of its own, alone."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from bankllm.assistant.reply_batcher import ReplyBatcher


class Engine:
    """Answers `x` with `X` and notes what was asked at once; `!` fails, `?` can only be answered alone."""

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


def test_what_is_ready_at_once_is_finished_at_once() -> None:
    engine = Engine()
    assert answers(engine, "a", "b", "c") == ["A", "B", "C"]
    assert (engine.together, engine.alone) == ([["a", "b", "c"]], [])


def test_one_fails_alone_and_another_goes_a_way_of_its_own() -> None:
    engine = Engine()
    assert answers(engine, "a", "!b", "c?", "d") == ["A", "!b", "C?", "D"]
    assert engine.alone == ["c?"]


def test_where_memory_refuses_the_lot_each_is_asked_alone() -> None:
    engine = Engine()
    engine.refuses = "b"
    assert answers(engine, "a", "b", "c") == ["A", "b", "C"]
    assert sorted(engine.alone) == ["a", "b", "c"]


def test_an_engine_that_may_have_to_wait_is_asked_for_each() -> None:
    engine = Engine(answers_together=False)
    assert answers(engine, "a", "b") == ["A", "B"]
    assert (engine.together, sorted(engine.alone)) == ([], ["a", "b"])


def test_who_has_left_is_no_hindrance() -> None:
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
