"""A chain detects each changed, removed, inserted, moved or repeated entry, and with a kept link its shortening."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bankllm.errors import ChainBroken, UsageError
from bankllm.util.hash_chain import Link, chained, link_of, parse, verify

KEYS = (None, b"secret")


def chain(*bodies: dict[str, Any], key: bytes | None = None) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for body in bodies:
        entries.append(chained(body, link_of(entries[-1]) if entries else None, key))
    return entries


def five(key: bytes | None = None) -> list[dict[str, Any]]:
    return chain(*({"number": number, "who": "é💳", "ids": [1, "b"]} for number in range(5)), key=key)


@pytest.mark.parametrize("key", KEYS)
def test_a_chain_holds_after_it_was_written_and_read_in_any_layout(key: bytes | None) -> None:
    entries = five(key)
    last = verify(entries, key)
    assert last == link_of(entries[-1])
    assert last.number == 5
    reread = [parse(json.dumps(dict(reversed(entry.items())), indent=3, ensure_ascii=False)) for entry in entries]
    assert verify(reread, key, kept=[link_of(entry) for entry in entries]) == last
    assert verify([], key) is None


def test_the_hash_is_the_documented_one() -> None:
    (entry,) = chain({"b": 1, "a": "é"})
    assert entry["chain"]["previous"] == "0" * 64
    # printf '{"a":"\\u00e9","b":1,"chain":{"number":1,"previous":"%064d"}}' 0 | sha256sum
    assert entry["chain"]["hash"] == "6e8c55416c16a9f896be037c5b4d6e1472376d429e08a09306a885cfd6db106b"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "change",
    [
        lambda entries: entries[2].update(who="another"),
        lambda entries: entries[2].update(extra=None),
        lambda entries: entries[2].pop("who"),
        lambda entries: entries[2]["chain"].update(hash="0" * 64),
        lambda entries: entries[2]["chain"].update(hash="\ud83d"),
        lambda entries: entries[2]["chain"].update(previous="0" * 64),
        lambda entries: entries[2]["chain"].update(number=9),
        lambda entries: entries[2]["chain"].update(number="3", previous=None, hash=[]),
        lambda entries: entries.pop(0),
        lambda entries: entries.pop(2),
        lambda entries: entries.insert(2, entries[1]),
        lambda entries: entries.reverse(),
        lambda entries: entries.__setitem__(2, chained({"forged": True}, link_of(entries[1]))),
        lambda entries: entries.__setitem__(2, chained({"forged": True}, link_of(entries[1]), b"another key")),
    ],
)
def test_a_change_is_detected(key: bytes | None, change: Any) -> None:
    entries = five(key)
    change(entries)
    with pytest.raises(ChainBroken, match=r"(does not hold|not have the hash).*compare it with a backup"):
        verify(entries, key)


@pytest.mark.parametrize("key", KEYS)
def test_a_shortened_or_rewritten_chain_is_detected_by_a_kept_link(key: bytes | None) -> None:
    entries = five(key)
    kept = [link_of(entries[1]), link_of(entries[4])]
    assert verify(entries[:3], key)  # by itself a shortened chain looks complete
    with pytest.raises(
        ChainBroken, match="it ends with entry 3, but entry 5 was kept: entries at the end were removed"
    ):
        verify(entries[:3], key, kept)
    with pytest.raises(ChainBroken, match="it ends with entry 0, but entry 5 was kept"):
        verify([], key, kept)
    with pytest.raises(ChainBroken, match="entry 2 is not the one that was kept"):
        verify(chain(*[{"number": 0}] * 5, key=key), key, kept)


def test_only_the_owner_of_the_key_can_write_and_check_a_keyed_chain() -> None:
    for key in (None, b"another key"):
        with pytest.raises(ChainBroken, match="or written with another key"):
            verify(five(b"secret"), key)
    with pytest.raises(UsageError, match="chain's key is empty"):
        five(b"")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "7",
        "{}",
        '{"chain": null}',
        '{"chain": {"number": 1}}',
        '{"chain": {"number": [], "previous": "", "hash": ""}}',
        '{"chain": {"number": 1, "previous": "", "hash": "", "more": 1}}',
        '{"a": 1, "a": 2, "chain": {"number": 1, "previous": "", "hash": ""}}',
        '{"a": NaN, "chain": {"number": 1, "previous": "", "hash": ""}}',
        '{"chain": {"number": 1, "previous": "", "hash": ""}} {}',
        "[" * 100_000,
        json.dumps(five()[0])[:-1],
    ],
)
def test_a_text_that_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(ChainBroken, match=r"Expected one JSON object with the member 'chain' .*use the original"):
        parse(text)


@pytest.mark.parametrize("body", [{"a": float("nan")}, {"a": {1}}, {"a": b"x"}, {1: 2, "b": 3}])
def test_a_body_that_is_not_json_is_refused(body: dict[Any, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        chained(body)


def test_the_member_chain_is_reserved() -> None:
    with pytest.raises(UsageError, match="'chain' is reserved"):
        chained({"chain": 1})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.lists(st.dictionaries(st.text().filter(lambda name: name != "chain"), JSON, max_size=3), max_size=4))
def test_any_json_survives_writing_and_reading(bodies: list[dict[str, Any]]) -> None:
    entries = chain(*bodies)
    last: Link | None = verify([parse(json.dumps(entry)) for entry in entries])
    assert (last.number if last else 0) == len(bodies)
