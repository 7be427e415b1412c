"""Choose some of many items, the same ones each time."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def subset(items: Sequence[T], count: int | None) -> list[T]:
    """Return `count` items in equal distances, the same ones each time; all if there are fewer, or for None."""
    if count is None or count >= len(items):
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]
