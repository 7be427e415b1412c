"""Consistency rules for a record: its unit fits its statistic, and its data set and model match their names.

The hashes are repeated here on purpose, because the standalone verifier cannot load data or models. A test compares
them with the loaders.
"""

import re
from collections.abc import Mapping
from typing import Any

from bankllm.evidence.documents import Record
from bankllm.evidence.statistics.statistic import COLUMN, COUNT, PER_SECOND, STATISTICS

COLUMN_UNITS = {
    "ms": "ms",
    "s": "s",
    "seconds": "s",
    "bytes": "bytes",
    "share": "share",
    "accuracy": "share",
    "recall": "share",
    "parameters": "parameters",
    "truncated": "texts",
    "error": "cosine",
}
"""Last part of a column name, after the last `_` → the unit of its values."""
QUANTITIES = frozenset(("ms", "s", "bytes", "share", "p", "cosine", "%"))
"""Units that a count cannot have."""
PERCENTILE_ID = re.compile(r"\bp(\d+(?:\.\d+)?)_ms\b")
"""The percentile in a record id, such as 95 in `chat.p95_ms`."""

KNOWN_HASHES = {
    "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d": ("banking77",),
    "5c36acf6cd16d2e36ec3d6faa03169163b9f59754f8b9aeacd882f89ce4f3b27": ("teller77", "assistant(teller77)"),
    "836f369494558c868dbd3027b25950602b7ad606a30060437cd4f7d04d573238": ("assistant(banking77+teller77)",),
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": ("all-MiniLM-L6-v2",),
}
"""sha256 of the test split of a data set, or of the weights of a model → its names."""


def contradiction(record: Record) -> str | None:
    """Explains the first contradiction within a measured record; None if there is none."""
    assert record.statistic is not None
    named = PERCENTILE_ID.search(record.id)
    if named and "q" in record.parameters and abs(float(named[1]) - 100 * record.parameters["q"]) > 1e-9:
        return f"the id says p{named[1]}, but the record is percentile {100 * record.parameters['q']:g}"
    made_by = re.match(r"raw/(\d\d)_", record.raw.path) if record.raw else None
    if made_by and made_by[1] != record.notebook[:2]:
        return f"the record names notebook {record.notebook}, but its raw file is from notebook {made_by[1]}"
    return unit_fault(record.statistic, record.parameters, record.unit) or identity_fault(record.conditions)


def unit_fault(statistic: str, parameters: Mapping[str, Any], unit: str) -> str | None:
    """Explains why a record of this statistic cannot have this unit; None if it can, or if no rule applies."""
    of = str(parameters.get("of", statistic))
    rule = "share" if parameters.get("pick") == "spread" else STATISTICS.get(of).unit
    quantity = unit in QUANTITIES or unit.endswith("/s")
    if rule == COUNT:
        return f"a count cannot have the unit {unit}" if quantity else None
    if rule == COLUMN:
        column = str(parameters.get("column") or parameters.get("bound") or "")
        rate = column.endswith(("_per_s", "_per_second"))
        rule = PER_SECOND if rate else COLUMN_UNITS.get(column.rpartition("_")[2], "*")
        if rule == "*" and quantity and len(column) > 1:
            return f"the unit {unit} does not follow from the name of column {column}"
    if rule == PER_SECOND:
        return None if unit.endswith("/s") else f"expected a unit that ends in /s, found {unit}"
    expected = rule.format_map(parameters)
    return f"expected unit {expected}, found {unit}" if expected not in ("*", unit) else None


def identity_fault(conditions: Mapping[str, Any]) -> str | None:
    """Explains why the data set or the base model is not what its name says; None if nothing contradicts the name.

    A selection of a data set, such as `teller77[8 intents]`, has the hashes of the whole. Published files may have a
    name of their own, such as that of their folder, if it mentions no other published data set.
    """
    known = {name for names in KNOWN_HASHES.values() for name in names}
    for kind, key in (("dataset", "test_sha256"), ("model", "model_sha256")):
        name = str(conditions.get(kind, "")).partition("[")[0]
        if kind == "model":
            name = name.rpartition("/")[2]
        found = str(conditions.get(key))
        names = KNOWN_HASHES.get(found, ())
        other = kind == "model" or any(published in name.lower() for published in known.difference(names))
        if names and name not in names and other:
            return f"the {kind} is named {name!r}, but its {key} is that of {names[0]}"
        if not names and name in known:
            return f"the {kind} is named {name!r}, but its {key} is {found[:12]}…"
    return None
