"""Choose some of many items, the same ones each time, and divide items into batches of a limited size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def subset(items: Sequence[T], count: int | None) -> list[T]:
    """Return `count` items in equal distances, the same ones each time; all if there are fewer, or for None."""
    if count is None or count >= len(items):
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]


def batches(items: Iterable[T], size_of: Callable[[T], int], limit: int, count: int | None = None) -> Iterator[list[T]]:
    """Group items in order, at most `count` per group and up to a sum of sizes of `limit`, but at least one item."""
    batch: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if batch and (len(batch) == count or total + size > limit):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch
