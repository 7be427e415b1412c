"""Consistency rules for a record: its unit fits its statistic, and its data set and model match their names.

The expected hashes and row counts are repeated here on purpose: the verifier does not import the modules that load data
and models. Tests compare both copies. Standard library only: this module is part of the `verify.py` that every run
contains.
"""

import re
from collections.abc import Mapping
from typing import Any

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

MAX_GENERATOR_CPU_SHARE = 0.9
"""Maximum CPU share of a load generator, of one core. Above it, the generator's own delay distorts the latencies."""

KNOWN_DATA: dict[str, dict[str, Any]] = {
    "banking77": {
        "train_sha256": "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
        "test_sha256": "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
        "train_rows": 10003,
        "test_rows": 3080,
        "intents": 77,
    },
    "teller77": {
        "train_sha256": "735d190ab79c8afa1a7ec76e4bb903f837d6e660e505df973a1f7c0098a636ce",
        "test_sha256": "5c36acf6cd16d2e36ec3d6faa03169163b9f59754f8b9aeacd882f89ce4f3b27",
        "train_rows": 2091,
        "test_rows": 697,
        "intents": 84,
    },
    "assistant(banking77+teller77)": {
        "train_sha256": "1c5e775ddc75b704791c234e428f6be42396002eb9c9db16b046d3a4fbdb35fc",
        "test_sha256": "836f369494558c868dbd3027b25950602b7ad606a30060437cd4f7d04d573238",
        "train_rows": 10477,
        "test_rows": 3238,
        "intents": 84,
    },
}
"""Name of a complete data set → its conditions, as `bankllm.datasets.Dataset.conditions` returns them."""
KNOWN_DATA["assistant(teller77)"] = KNOWN_DATA["teller77"]
HASHES = ("train_sha256", "test_sha256")
"""The conditions that a selection of a data set, such as `teller77[8 intents]`, shares with the whole."""
NAME_BY_HASH = {facts["test_sha256"]: name for name, facts in reversed(KNOWN_DATA.items())}
"""sha256 of the test split → name of the data set."""

KNOWN_MODELS = {"all-MiniLM-L6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
"""Last part of a base model id, after the last `/` → sha256 of its weights."""


def unit_fault(statistic: str, parameters: Mapping[str, Any], unit: str) -> str | None:
    """Explains why a record of this statistic cannot have this unit; None if it can, or if no rule applies."""
    expected = None
    if statistic in ("across", "bootstrap"):
        if parameters.get("pick") != "spread":
            return unit_fault(str(parameters.get("of")), parameters, unit)
        expected = "share"
    elif statistic in SHARES:
        expected = "share"
    elif statistic == "mcnemar":
        expected = "p"
    elif statistic in RATES:
        return (
            None
            if unit.endswith("/s")
            else f"{statistic} is a rate per second: expected a unit that ends in /s, found {unit}"
        )
    elif statistic == "rate":
        expected = f"{parameters.get('amount')}/s"
    elif statistic == "count":
        return f"a count cannot have the unit {unit}" if _is_quantity(unit) else None
    else:
        column = str(parameters.get("column") or parameters.get("bound") or "")
        if column.endswith(("_per_s", "_per_second")):
            return (
                None
                if unit.endswith("/s")
                else f"column {column} holds a rate per second: expected a unit that ends in /s, found {unit}"
            )
        expected = COLUMN_UNITS.get(column.rpartition("_")[2])
        if expected is None and _is_quantity(unit) and len(column) > 1:
            return f"the unit {unit} does not follow from the name of column {column}"
    return f"expected unit {expected}, found {unit}" if expected not in (None, unit) else None


def name_fault(id: str, parameters: Mapping[str, Any]) -> str | None:
    """Explains why an id contradicts the percentile `q` of its record (`p95_ms`: q = 0.95); None if it does not."""
    named = PERCENTILE_ID.search(id)
    if named and "q" in parameters and abs(float(named[1]) - 100 * parameters["q"]) > 1e-9:
        return f"the id says p{named[1]}, but the record is percentile {100 * parameters['q']:g}"
    return None


def data_fault(conditions: Mapping[str, Any]) -> str | None:
    """Explains why the conditions contradict the name of the data set; None if they do not."""
    name = str(conditions.get("dataset", ""))
    base, _, selection = name.partition("[")
    facts = KNOWN_DATA.get(base)
    if facts is None:
        known = NAME_BY_HASH.get(str(conditions.get("test_sha256")))
        return f"the data set is named {name!r}, but its files are those of {known}" if known else None
    checked = HASHES if selection else tuple(facts)
    for key in checked:
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


def _is_quantity(unit: str) -> bool:
    return unit in QUANTITIES or unit.endswith("/s")
