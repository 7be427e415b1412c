"""Restrict a search to texts with given metadata or of a period: one expression, for SQLite and for Pinecone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

import numpy as np

from bankllm.errors import UsageError

Value: TypeAlias = str | int | float | bool
MAX_VALUES = 1000
"""Maximum number of values in one filter."""
CREATED_AT = "created_at"
"""Key of the time of writing; no metadata has it (`rows.RESERVED_METADATA`)."""
_OPERATORS = {"<": (lt, "$lt"), "<=": (le, "$lte"), ">": (gt, "$gt"), ">=": (ge, "$gte")}
Values: TypeAlias = Mapping[str, Any]
"""What a filter compares of one row, see `values_of`."""


@dataclass(frozen=True)
class Filter:
    """Texts that meet all given conditions. Raises `UsageError` for a wrong type or more than `MAX_VALUES` values."""

    intent: str | Sequence[str] | None = None
    """The intent, or one of several."""
    conversation_id: str | Sequence[str] | None = None
    created_from: datetime | str | None = None
    """Earliest time of writing; a time without a zone is UTC."""
    created_to: datetime | str | None = None
    """The time of writing is before this time."""
    metadata: Mapping[str, Value | Sequence[Value] | Mapping[str, float]] = field(default_factory=dict)
    """For each key: a value, a list of which one must match, or comparisons such as `{">=": 10, "<": 20}`. A text whose
    metadata has a list of strings matches if one of them does."""

    def __post_init__(self) -> None:
        if not isinstance(self.metadata, Mapping) or not all(isinstance(key, str) and key for key in self.metadata):
            raise UsageError(f"Expected metadata={{key: value}} in a filter, got {self.metadata!r:.80}.")
        for name in ("intent", "conversation_id"):
            value = getattr(self, name)
            if value is not None and not all(isinstance(item, str) for item in _listed(value)):
                raise UsageError(f"Expected {name} in a filter to be a str or a list of str, got {value!r:.80}.")
        count = sum(len(_listed(condition)) for condition in self._conditions().values())
        if count > MAX_VALUES:
            raise UsageError(f"Expected at most {MAX_VALUES} values in a filter, got {count}. Search in several calls.")
        for key, condition in self._conditions().items():
            _check(key, condition)
        if None not in (period := self.period) and period[0] >= period[1]:  # type: ignore[operator]
            raise UsageError(f"Expected created_from before created_to in a filter, got {period[0]} and {period[1]}.")

    @classmethod
    def parse(cls, where: "Filter | Mapping[str, Any] | None") -> "Filter | None":
        """Return the filter that a mapping with the fields of this class describes."""
        if where is None or isinstance(where, Filter):
            return where
        known = [each.name for each in fields(cls)]
        got = [key for key in where if key not in known] if isinstance(where, Mapping) else where
        if got != []:
            raise UsageError(
                f"Expected a filter with the fields {', '.join(known)}, got {got!r:.80}. "
                "Other metadata belongs into metadata={key: value}."
            )
        return cls(**where)

    @cached_property
    def period(self) -> tuple[str | None, str | None]:
        """`created_from` and `created_to` in the form of `Row.created_at`."""
        return _moment("created_from", self.created_from), _moment("created_to", self.created_to)

    def passing(self, rows: Sequence[Values]) -> np.ndarray:
        """Return which of the rows meet all conditions, (rows,) bool."""
        passing = np.ones(len(rows), bool)
        for key, condition in self._conditions().items():
            column = [row.get(key) for row in rows]
            fitting = _fitting(set(column), condition)
            passing &= np.fromiter((value in fitting for value in column), bool, len(rows))
        start, end = self.period
        if start or end:
            times = [row[CREATED_AT] for row in rows]
            passing &= np.fromiter(((not start or start <= at) and (not end or at < end) for at in times), bool)
        return passing

    def pinecone(self) -> list[dict[str, Any]]:
        """Return conditions that must all hold."""
        parts: list[dict[str, Any]] = []
        for operator, bound in zip(("$gte", "$lt"), self.period, strict=True):
            if bound is not None:
                parts.append({"created_s": {operator: datetime.fromisoformat(bound).timestamp()}})
        for key, condition in self._conditions().items():
            if isinstance(condition, Mapping):
                parts.append({key: {_OPERATORS[operator][1]: number for operator, number in condition.items()}})
            else:
                parts.append({"$or": [{key: {"$eq": value}} for value in _listed(condition)]})
        return parts

    def _conditions(self) -> dict[str, Any]:
        named = {"intent": self.intent, "conversation_id": self.conversation_id}
        return {**self.metadata, **{key: value for key, value in named.items() if value is not None}}


def values_of(metadata: Mapping[str, Any], created_at: str) -> Values:
    """Return what `Filter.passing` compares of a row."""
    return {**{key: _comparable(value) for key, value in metadata.items()}, CREATED_AT: created_at}


def _comparable(value: Any) -> Any:
    """Return a hashable value: lists are tuples, and so are bools, which would equal 0 and 1."""
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, bool) else value


def _fitting(values: set[Any], condition: Any) -> set[Any]:
    """Return the values that meet a condition."""
    if isinstance(condition, Mapping):
        numbers = {value for value in values if isinstance(value, int | float)}
        for name, bound in condition.items():
            numbers = {value for value in numbers if _OPERATORS[name][0](value, bound)}
        return numbers
    wanted = {_comparable(value) for value in _listed(condition)}
    strings = {value for value in wanted if isinstance(value, str)}
    lists = {value for value in values if isinstance(value, tuple) and not strings.isdisjoint(value)}
    return (values & wanted) | lists


def _listed(condition: Any) -> Sequence[Any]:
    """Return the alternatives of a condition, or its comparisons."""
    return (
        list(condition) if isinstance(condition, Sequence | Mapping) and not isinstance(condition, str) else [condition]
    )


def _check(key: str, condition: Any) -> None:
    if isinstance(condition, Mapping):
        valid = bool(condition) and all(
            operator in _OPERATORS and not isinstance(number, bool) and isinstance(number, int | float)
            for operator, number in condition.items()
        )
        numbers: Sequence[Any] = list(condition.values())
    else:
        numbers = _listed(condition)
        valid = bool(numbers) and all(isinstance(value, str | int | float) for value in numbers)
    if not valid or not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
        raise UsageError(
            f"Expected {key} in a filter to be a str, finite number or bool, a list of these, or comparisons of "
            f"numbers such as {{'>=': 10}} with {', '.join(_OPERATORS)}; got {condition!r:.80}."
        )


def _moment(name: str, value: datetime | str | None) -> str | None:
    if value is None:
        return None
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(
            f"Expected {name} in a filter to be a datetime or ISO 8601 text such as 2026-01-31, got {value!r:.80}."
        ) from error
