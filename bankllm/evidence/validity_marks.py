"""Reasons why a number must not be used: from the statistic, e.g. too few samples, and from the raw files.

Verification reads the raw files again, so it detects a reason that was removed from a record: the exclusions of a
notebook in `raw/<number>_marks.csv`, and the summary of a load with the CPU share of the load generator.
"""

from collections.abc import Sequence
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.csv_table import inside, read_table
from bankllm.evidence.manifest import left_by_tools

EXCLUSIONS_SUFFIX = "_marks.csv"
SUMMARY = "_summary"
BUSY, BECAUSE = "generator_cpu_share", "invalid_because"
MAX_GENERATOR_CPU_SHARE = 0.9
"""Maximum CPU share of a load generator, of one core. Above it, the generator's own delay distorts the latencies."""


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
