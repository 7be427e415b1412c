"""Consistency rules for a record: its unit fits its statistic, and its data set and model match their names.

The hashes and row counts are repeated here on purpose, because the standalone verifier cannot load data or models.
Tests compare them with the loaders. Standard library only: this module is part of the `verify.pyz` of a run.
"""

import re
from collections.abc import Mapping
from typing import Any

from bankllm.evidence.documents import Record
from bankllm.evidence.seal import DATA_KEYS

SHARES = frozenset(
    [
        "proportion",
        "accuracy",
        "macro_f1",
        "accuracy_over_seeds",
        "accuracy_sd_over_seeds",
        "accuracy_difference",
        "expected_calibration_error",
        "aurc",
        "rejected",
        "recall_at_false_rejects",
        "auroc",
        "growth",
    ]
)
"""Statistics whose unit is `share`."""
RATES = frozenset(("throughput", "goodput", "knee"))
"""Statistics whose unit is a rate per second, such as `requests/s`."""
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

KNOWN_DATA: dict[str, dict[str, Any]] = {
    name: dict(zip(DATA_KEYS, facts, strict=True))
    for name, *facts in (
        (
            "banking77",
            *(10003, 3080, 77),
            "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
            "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
        ),
        (
            "teller77",
            *(2091, 697, 84),
            "735d190ab79c8afa1a7ec76e4bb903f837d6e660e505df973a1f7c0098a636ce",
            "5c36acf6cd16d2e36ec3d6faa03169163b9f59754f8b9aeacd882f89ce4f3b27",
        ),
        (
            "assistant(banking77+teller77)",
            *(10477, 3238, 84),
            "1c5e775ddc75b704791c234e428f6be42396002eb9c9db16b046d3a4fbdb35fc",
            "836f369494558c868dbd3027b25950602b7ad606a30060437cd4f7d04d573238",
        ),
    )
}
"""Name of a complete data set → its `DATA_KEYS`."""
KNOWN_DATA["assistant(teller77)"] = KNOWN_DATA["teller77"]
HASHES = ("train_sha256", "test_sha256")
"""The conditions that a selection of a data set, such as `teller77[8 intents]`, shares with the whole."""
KNOWN_MODELS = {"all-MiniLM-L6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
"""Last part of a base model id, after the last `/` → sha256 of its weights."""


def contradiction(record: Record) -> str | None:
    """Explains the first contradiction within a measured record; None if there is none."""
    assert record.statistic is not None
    named = PERCENTILE_ID.search(record.id)
    if named and "q" in record.parameters and abs(float(named[1]) - 100 * record.parameters["q"]) > 1e-9:
        return f"the id says p{named[1]}, but the record is percentile {100 * record.parameters['q']:g}"
    return (
        unit_fault(record.statistic, record.parameters, record.unit)
        or data_fault(record.conditions)
        or model_fault(record.conditions)
    )


def unit_fault(statistic: str, parameters: Mapping[str, Any], unit: str) -> str | None:
    """Explains why a record of this statistic cannot have this unit; None if it can, or if no rule applies."""
    if statistic in ("across", "bootstrap") and parameters.get("pick") != "spread":
        return unit_fault(str(parameters.get("of")), parameters, unit)
    quantity = unit in QUANTITIES or unit.endswith("/s")
    if statistic == "count":
        return f"a count cannot have the unit {unit}" if quantity else None
    column = str(parameters.get("column") or parameters.get("bound") or "")
    if statistic in RATES or column.endswith(("_per_s", "_per_second")):
        return None if unit.endswith("/s") else f"expected a unit that ends in /s, found {unit}"
    if statistic in SHARES or statistic in ("across", "bootstrap"):
        expected: str | None = "share"
    elif statistic == "mcnemar":
        expected = "p"
    elif statistic == "rate":
        expected = f"{parameters.get('amount')}/s"
    else:
        expected = COLUMN_UNITS.get(column.rpartition("_")[2])
        if expected is None and quantity and len(column) > 1:
            return f"the unit {unit} does not follow from the name of column {column}"
    return f"expected unit {expected}, found {unit}" if expected not in (None, unit) else None


def data_fault(conditions: Mapping[str, Any]) -> str | None:
    """Explains why the conditions contradict the name of the data set; None if they do not."""
    name = str(conditions.get("dataset", ""))
    base, _, selection = name.partition("[")
    facts = KNOWN_DATA.get(base)
    if facts is None:
        same = [known for known, facts in KNOWN_DATA.items() if facts["test_sha256"] == conditions.get("test_sha256")]
        return f"the data set is named {name!r}, but its files are those of {same[0]}" if same else None
    for key in HASHES if selection else (*HASHES, *DATA_KEYS):
        if conditions.get(key) != facts[key]:
            return f"{name}: expected {key} {facts[key]}, found {conditions.get(key)}"
    return None


def model_fault(conditions: Mapping[str, Any]) -> str | None:
    """Explains why the hash of the weights contradicts the name of the base model; None if it does not."""
    name = str(conditions.get("model", ""))
    expected = KNOWN_MODELS.get(name.rpartition("/")[2])
    found = conditions.get("model_sha256")
    if expected and found != expected:
        return f"{name}: expected weights with sha256 {expected[:12]}…, found {str(found)[:12]}…"
    if not expected and found in KNOWN_MODELS.values():
        return f"the model is named {name!r}, but its weights are those of {next(iter(KNOWN_MODELS))}"
    return None
