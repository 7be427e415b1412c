"""Rules that verification applies to a record again, so that it detects a reason that was removed from the record.

A number must not be used for reasons of the statistic, such as too few samples, and for those in the raw files: the
exclusions of a notebook (`raw/<number>_marks.csv`) and the summary of a load. A unit must fit the statistic, and a data
set and a model their names. Their hashes are repeated here, because the standalone verifier cannot load data or models;
a test compares them with the loaders.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bankllm.errors import RunError
from bankllm.evidence.documents import Record
from bankllm.evidence.manifest import left_by_tools
from bankllm.evidence.raw_files import inside, read_table
from bankllm.evidence.statistics.statistic import COLUMN, COUNT, PER_SECOND, STATISTICS

EXCLUSIONS_SUFFIX = "_marks.csv"
SUMMARY = "_summary"
BUSY, BECAUSE = "generator_cpu_share", "invalid_because"
MAX_GENERATOR_CPU_SHARE = 0.9
"""Maximum CPU share of a load generator, of one core. Above it, the generator's own delay distorts the latencies."""
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


def reasons(mark: str | None, load: Sequence[str], statistic: str | None) -> str | None:
    """Joins the reasons of the notebook, the load summary and the statistic without repetitions."""
    unique: list[str] = []
    for reason in (mark, *load, statistic):
        if reason and not any(reason in earlier for earlier in unique):
            unique.append(reason)
    return "; ".join(unique) or None


def exclusions(folder: Path) -> dict[str, str]:
    """Reads record id → the reason why its notebook excluded it. Raises `RunError` if a file is not readable."""
    excluded: dict[str, str] = {}
    found = sorted((folder / "raw").glob(f"*{EXCLUSIONS_SUFFIX}"))
    for path in (path for path in found if not left_by_tools(path.name)):
        for row in read_table(inside(folder, f"raw/{path.name}"), f"raw/{path.name}"):
            if set(row) != {"id", BECAUSE}:
                raise RunError(
                    f"raw/{path.name}: expected the columns id and {BECAUSE}, found {', '.join(row) or 'neither'}."
                )
            excluded[row["id"]] = row[BECAUSE]
    return excluded


def load_faults(folder: Path, raw: str) -> list[str]:
    """Returns the reasons in the summary of a load; `raw` is the path of the load's rows, or of its summary."""
    head, _, name = raw.rpartition("/")
    stem = name.partition(".")[0]
    summaries = [raw] if stem.endswith(SUMMARY) else [f"{head}/{stem}{SUMMARY}.csv", f"{head}/{stem}{SUMMARY}.csv.gz"]
    faults: dict[str, None] = {}
    for summary in summaries:
        if (folder / summary).is_file():
            for row in read_table(inside(folder, summary), summary):
                if because := row.get(BECAUSE) or busy_fault(row.get(BUSY) or "0"):
                    faults[because] = None
    return list(faults)


def busy_fault(share: str | float) -> str | None:
    """Explains why a load is invalid whose generator used this share of a core. Raises `RunError` for no number."""
    try:
        value = float(share)
    except ValueError:
        raise RunError(f"{BUSY} is {share!r}. Expected a number, the share of a core.") from None
    if value <= MAX_GENERATOR_CPU_SHARE:
        return None
    return f"the load generator was busy for {value:.0%} of a core, over {MAX_GENERATOR_CPU_SHARE:.0%}"


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
