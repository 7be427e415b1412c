"""Chats whose encodings arrive together are finished in one batch. A failed or unclear chat affects only itself."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from bankllm.assistant.reply_batcher import ReplyBatcher


class Engine:
    """Answers `x` with `X` and records each batch; `!` fails, and `?` cannot be answered in a batch."""

    def __init__(self, answers_together: bool = True, refuses: str = "") -> None:
        self.answers_together, self.refuses = answers_together, refuses
        self.together: list[list[str]] = []
        self.alone: list[str] = []

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


@pytest.mark.parametrize(
    ("engine", "chats", "replies", "alone"),
    [
        (Engine(), ["a", "b", "c"], ["A", "B", "C"], []),
        (Engine(), ["a", "!b", "c?", "d"], ["A", "!b", "C?", "D"], ["c?"]),
        (Engine(refuses="b"), ["a", "b", "c"], ["A", "b", "C"], ["a", "b", "c"]),
        (Engine(answers_together=False), ["a", "b"], ["A", "B"], ["a", "b"]),
    ],
    ids=["together", "one fails, one is unclear", "the batch fails", "the engine may wait"],
)
def test_chats_are_finished_together_and_else_singly(
    engine: Engine, chats: list[str], replies: list[str], alone: list[str]
) -> None:
    assert answers(engine, *chats) == replies
    unclear = [[chat for chat in chats if "?" in chat]] if "c?" in chats else []
    assert engine.together == ([chats, *unclear] if engine.answers_together else [])
    assert sorted(engine.alone) == alone


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
