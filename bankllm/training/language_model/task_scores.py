"""Compare a language model's outputs for TellerChat's examples with what is expected: one row per example.

    rows = understand_rows(examples, generate([task_of(example)[0] for example in examples]))

Write the rows with `bankllm.evidence.records.write_rows`; `UNDERSTAND` and `WORD` name the statistics of a record.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bankllm.assistant.bank.tools import Call, ProposedCalls, parse_calls
from bankllm.assistant.wording.assertions import Claims
from bankllm.datasets.tellerchat import Understand, Word
from bankllm.errors import UsageError
from bankllm.util.figures import find_figures, known_figures

Row = dict[str, object]
Metrics = Mapping[str, tuple[str, str, str, dict[str, Any]]]
PARTS = ("right", "predicted", "expected")


def _counts(name: str) -> dict[str, str]:
    """Columns of `micro_f1`."""
    return {part: f"{name}_{part}" for part in PARTS}


def share(title: str, column: str, equals: str = "yes") -> tuple[str, str, str, dict[str, Any]]:
    """The share of the rows that have this value in a column."""
    return title, "share", "proportion", {"column": column, "equals": equals}


UNDERSTAND: Metrics = {
    "exact": ("Exactly right calls", "share", "accuracy", {}),
    "tool_f1": ("F1 of the tools", "share", "micro_f1", _counts("tools")),
    "argument_f1": ("F1 of the arguments", "share", "micro_f1", _counts("arguments")),
    "valid": share("Valid JSON", "valid"),
    "with_dropped": share("Outputs with a value that is no copy", "copies", "no"),
}
ROUTED: Metrics = {
    "without_model": share("Read by rules only", "reader", "rules"),
    "by_model": share("Read by the model", "reader", "model"),
}
WORD: Metrics = {
    "grounded": share("Without an ungrounded figure", "grounded"),
    "complete": share("With every required piece", "complete"),
    "released": share("Released by the guard", "released"),
    "length": ("Length of a reply", "words", "mean", {"column": "words"}),
}
"""Id → title, unit, statistic and its parameters."""


def understand_rows(examples: Sequence[Understand], outputs: Sequence[str], **columns: Sequence[object]) -> list[Row]:
    """`actual` and `predicted` are the calls in a fixed order as JSON, so the order of calls and arguments is free.

    `valid` is `no` for an output that is no list of calls; `copies` is `no` where a value is no piece of the customer's
    messages, which is then dropped. The columns `tools_*` and `arguments_*` count `right`, `predicted` and `expected`.
    `columns` are added.
    """
    rows: list[Row] = []
    for number, (example, output) in enumerate(zip(examples, outputs, strict=True)):
        try:
            found, valid = parse_calls(output, example.messages), True
        except UsageError:
            found, valid = ProposedCalls(()), False
        row: Row = {
            "example": number,
            "phenomena": "|".join(example.phenomena),
            "actual": _canonical(example.calls),
            "predicted": _canonical(found.calls) if valid else "invalid",
            "valid": "yes" if valid else "no",
            "copies": "no" if found.dropped else "yes",
        }
        for name, parts in (("tools", _tools), ("arguments", _arguments)):
            predicted, expected = parts(found.calls), parts(example.calls)
            counters = (predicted & expected, predicted, expected)
            row |= {f"{name}_{part}": counter.total() for part, counter in zip(PARTS, counters, strict=True)}
        more = {name: values[number] for name, values in columns.items()}
        rows.append({**row, **more, "output": output})
    return rows


def by_phenomenon(rows: Sequence[Mapping[str, object]]) -> list[Row]:
    """One row per example and phenomenon of it, for records with `where={"phenomenon": …}`."""
    return [
        {"phenomenon": name, **{column: row[column] for column in ("example", "actual", "predicted")}}
        for row in rows
        for name in str(row["phenomena"]).split("|")
    ]


def tool_rows(rows: Sequence[Mapping[str, object]]) -> list[Row]:
    """Return for each example the tools in `actual` and `predicted`, such as `balance + transfer`, `none` or `invalid`.

    The rows are what `training.evaluate.confused_pairs` takes.
    """
    return [{column: _tool_names(str(row[column])) for column in ("actual", "predicted")} for row in rows]


def _tool_names(calls: str) -> str:
    if calls == "invalid":
        return calls
    return " + ".join(sorted(call["tool"] for call in json.loads(calls))) or "none"


def word_rows(examples: Sequence[Word], outputs: Sequence[str]) -> list[Row]:
    """`grounded` is `no` where the reply has a figure that neither the facts nor the message have.

    `complete` is `no` where a required piece is missing, `released` where the service's guard refuses the reply.
    """
    rows: list[Row] = []
    for number, (example, output) in enumerate(zip(examples, outputs, strict=True)):
        known = known_figures("\n".join((*example.facts, example.message)))
        row = {"example": number, "grounded": "yes" if find_figures(output) <= known else "no"}
        row |= {"complete": "yes" if all(piece in output for piece in example.required) else "no"}
        row |= {"released": "no" if Claims(example.facts).faults(output) else "yes"}
        rows.append({**row, "words": len(output.split()), "output": output})
    return rows


def _canonical(calls: Sequence[Call]) -> str:
    return json.dumps(sorted((dict(call) for call in calls), key=lambda call: sorted(call.items())), sort_keys=True)


def _tools(calls: Sequence[Call]) -> Counter[object]:
    return Counter(call["tool"] for call in calls)


def _arguments(calls: Sequence[Call]) -> Counter[object]:
    return Counter((call["tool"], *item) for call in calls for item in call.items() if item[0] != "tool")
