import json
import re
from collections import Counter
from pathlib import Path

import pytest

from bankllm.datasets import tellerchat
from bankllm.datasets.tellerchat import Understand, Word
from bankllm.errors import DataError
from bankllm.vectors.embedder import Embedder

FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
ENUMERATIONS = {"tool", "direction", "order", "kind", "question", "reason"}


def pattern(example: Understand) -> str:
    """The messages in lower case, with slots for copied values and numbers."""
    text = " | ".join(example.messages)
    for call in example.calls:
        for name, value in call.items():
            text = text.replace(value, "#") if name not in ENUMERATIONS else text
    return re.sub(r"\d[\d,.]*", "#", text.lower())


def test_the_sets_have_the_documented_size_and_variety() -> None:
    train, test = tellerchat.load(Understand, "train"), tellerchat.load(Understand, "test")
    assert (len(train), len(test)) == (9855, 689)
    tools = Counter(call["tool"] for example in test for call in example.calls)
    assert len(tools) == 16
    assert min(tools.values()) >= 10
    phenomena = Counter(name for example in test for name in example.phenomena)
    assert sum(count >= 30 for count in phenomena.values()) >= 12


def test_no_test_message_has_the_pattern_of_a_training_message() -> None:
    train = Counter(map(pattern, tellerchat.load(Understand, "train")))
    assert max(train.values()) == 1
    assert not train.keys() & set(map(pattern, tellerchat.load(Understand, "test")))


@pytest.mark.slow
def test_no_training_message_has_nearly_the_meaning_of_a_test_message() -> None:
    embedder = Embedder()
    for task, near in ((Understand, 0), (Word, 1)):
        train, test = (
            embedder.encode(["\n".join(row.messages) if isinstance(row, Understand) else row.message for row in rows])
            for rows in (tellerchat.load(task, "train"), tellerchat.load(task, "test"))
        )
        assert ((train @ test.T).max(axis=0) >= 0.9).sum() == near


def test_a_packaged_reply_states_what_is_required_and_no_other_figure() -> None:
    train, test = tellerchat.load(Word, "train"), tellerchat.load(Word, "test")
    assert (len(train), len(test)) == (2379, 258)
    assert not {example.message for example in train} & {example.message for example in test}
    for example in (*train, *test):
        known = FIGURE.findall(" ".join(example.facts))
        assert not set(FIGURE.findall(example.reply)) - set(known), example
        assert all(piece in example.reply for piece in example.required), example


def test_a_file_of_a_user_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    word = {"message": "rent?", "facts": ["Rent: £850.00"], "reply": "Your rent is £850.00."}
    path.write_text('﻿{"messages": ["hi"], "calls": []}\r\n\n' + json.dumps(word), encoding="utf-8")
    assert tellerchat.read(path) == [Understand(messages=("hi",), calls=()), Word(**word)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "has no examples"),
        ('{"messages": ["hi"], "calls": []}\n{', "line 2"),
        ('{"messages": [], "calls": []}', "line 1, messages"),
        ('{"messages": ["a", "b", "c", "d"], "calls": []}', "line 1, messages"),
        ('{"messages": ["hi"]}', "line 1, calls"),
        ('{"messages": ["hi"], "calls": [{"tool": 1}]}', "line 1, calls.0.tool"),
        ('{"messages": [" "], "calls": []}', "line 1, messages.0"),
        ('{"message": "a", "facts": ["b"], "reply": "c", "note": "d"}', "line 1, note"),
        ("[]", "line 1, the line"),
    ],
)
def test_an_invalid_example_is_refused_with_its_line(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=expected):
        tellerchat.read(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        tellerchat.read(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    with pytest.raises(DataError, match="UTF-8"):
        tellerchat.read(tmp_path / "latin.jsonl")
