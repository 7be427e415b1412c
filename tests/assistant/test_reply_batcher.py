"""Chats whose encodings arrive together are finished in one batch. A failed or unclear chat affects only itself."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from bankllm.assistant.reply_batcher import AT_ONCE, ReplyBatcher


class Chat(str):
    """A message. One with `?` waits for a future that another thread sets."""

    waits_for: list[Future[str]]


class Engine:
    """Answers `x` with `X` and records each batch; `!` fails, and `?` is answered when its future is done."""

    def __init__(self, answers_together: bool = True, refuses: str = "") -> None:
        self.answers_together, self.refuses = answers_together, refuses
        self.together: list[list[str]] = []
        self.encoded: Future[str] | None = None
        """What a chat with `?` waits for; None: a future that is soon done."""
        self.alone: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def finish_together(self, chats: Sequence[Chat]) -> list[Any]:
        self.together.append([str(chat) for chat in chats])
        assert self.go.wait(60)
        if self.refuses in chats:
            raise ValueError(self.refuses)
        return [self.answer(chat) for chat in chats]

    def answer(self, chat: Chat) -> Any:
        if "?" in chat and not chat.waits_for:
            chat.waits_for = [self.encoded or Future()]
            if self.encoded is None:
                threading.Thread(target=chat.waits_for[0].set_result, args=("encoded",)).start()
            return None
        return ValueError(chat) if "!" in chat else chat.upper()

    def finish(self, chat: Chat) -> str:
        self.alone.append(str(chat))
        if chat == self.refuses:
            raise ValueError(chat)
        return chat.upper()


def chats(*texts: str) -> list[Chat]:
    made = [Chat(text) for text in texts]
    for chat in made:
        chat.waits_for = []
    return made


def answers(engine: Engine, *texts: str) -> list[Any]:
    async def all_at_once() -> list[Any]:
        batcher: Any = ReplyBatcher()
        return await asyncio.gather(*(batcher.finish(engine, chat) for chat in chats(*texts)), return_exceptions=True)

    return [str(found) for found in asyncio.run(all_at_once())]


@pytest.mark.parametrize(
    ("engine", "texts", "replies", "together", "alone"),
    [
        (Engine(), ["a", "b", "c"], ["A", "B", "C"], [["a", "b", "c"]], []),
        (Engine(), ["a", "!b", "c?", "d"], ["A", "!b", "C?", "D"], [["a", "!b", "c?", "d"], ["c?"]], []),
        (Engine(refuses="b"), ["a", "b", "c"], ["A", "b", "C"], [["a", "b", "c"]], ["a", "b", "c"]),
        (Engine(answers_together=False), ["a", "b"], ["A", "B"], [], ["a", "b"]),
    ],
    ids=["together", "one fails, one waits", "the batch fails", "the engine may wait"],
)
def test_chats_are_finished_together_and_else_singly(
    engine: Engine, texts: list[str], replies: list[str], together: list[list[str]], alone: list[str]
) -> None:
    assert answers(engine, *texts) == replies
    assert engine.together == together
    assert sorted(engine.alone) == alone


def test_chats_wait_for_the_next_batch_while_others_are_finished() -> None:
    engine = Engine()
    engine.go.clear()

    async def come_one_after_the_other() -> list[str]:
        batcher: Any = ReplyBatcher()
        finishing = []
        for number, chat in enumerate(chats("a", "b", "c", "d")):
            finishing.append(asyncio.ensure_future(batcher.finish(engine, chat)))
            while len(engine.together) < min(number + 1, AT_ONCE):
                await asyncio.sleep(0.001)
        engine.go.set()
        return list(await asyncio.gather(*finishing))

    assert asyncio.run(come_one_after_the_other()) == ["A", "B", "C", "D"]
    assert engine.together == [["a"], ["b"], ["c", "d"]]


def test_a_chat_that_had_to_wait_goes_before_later_ones() -> None:
    engine = Engine()
    engine.encoded = Future()

    async def one_waits() -> None:
        batcher: Any = ReplyBatcher()
        first, *later = chats("a?", "b", "c", "d")
        finishing = [asyncio.ensure_future(batcher.finish(engine, first))]
        while not first.waits_for:
            await asyncio.sleep(0.001)
        engine.go.clear()
        for number, chat in enumerate(later):
            finishing.append(asyncio.ensure_future(batcher.finish(engine, chat)))
            while len(engine.together) < 1 + min(number + 1, AT_ONCE):
                await asyncio.sleep(0.001)
        engine.encoded.set_result("encoded")
        await asyncio.gather(asyncio.wrap_future(engine.encoded))
        engine.go.set()
        await asyncio.gather(*finishing)

    asyncio.run(one_waits())
    assert engine.together == [["a?"], ["b"], ["c"], ["a?", "d"]]


def test_a_cancelled_chat_does_not_affect_the_others() -> None:
    engine = Engine()

    async def one_leaves() -> str:
        batcher: Any = ReplyBatcher()
        leaving, staying = (asyncio.ensure_future(batcher.finish(engine, chat)) for chat in chats("a", "b"))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return str(await staying)

    assert asyncio.run(one_leaves()) == "B"
    assert engine.together == [["a", "b"]]
