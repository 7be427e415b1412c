"""Why a number must not be used, read again from the raw files, so that removing a mark from a record is found.

A notebook's own exclusions are in `raw/<number>_marks.csv`. A load's summary, beside its rows, says how busy the
generator was. The statistic itself can exclude a number too. Standard library only.
"""

from collections.abc import Sequence
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.csv_table import inside, read_table
from bankllm.evidence.known_facts import MOST_BUSY

EXCLUSIONS_SUFFIX = "_marks.csv"
SUMMARY = "_summary"
BUSY, BECAUSE = "generator_cpu_share", "invalid_because"


def reasons(mark: str | None, load: Sequence[str], statistic: str | None) -> str | None:
    """All that forbids the use of a number, each said once; None where nothing does."""
    said: list[str] = []
    for reason in (mark, *load, statistic):
        if reason and not any(reason in earlier for earlier in said):
            said.append(reason)
    return "; ".join(said) or None


def exclusions(folder: Path) -> dict[str, str]:
    """Id of a record → why its notebook forbade its use."""
    found: dict[str, str] = {}
    for path in sorted((folder / "raw").glob(f"*{EXCLUSIONS_SUFFIX}")):
        for row in read_table(inside(folder, f"raw/{path.name}"), f"raw/{path.name}", ("id", BECAUSE)):
            if set(row) != {"id", BECAUSE}:
                raise RunError(f"raw/{path.name} has no columns id, {BECAUSE}.")
            found[row["id"]] = row[BECAUSE]
    return found


def load_faults(folder: Path, raw: str) -> list[str]:
    """What the summary of a load forbids; `raw` is the file of the load's rows, or of its summary."""
    head, _, name = raw.rpartition("/")
    stem = name.partition(".")[0]
    summaries = [raw] if stem.endswith(SUMMARY) else [f"{head}/{stem}{SUMMARY}.csv", f"{head}/{stem}{SUMMARY}.csv.gz"]
    found: dict[str, None] = {}
    for summary in summaries:
        if not (folder / summary).is_file():
            continue
        for row in read_table(inside(folder, summary), summary, (BUSY, BECAUSE)):
            if because := row.get(BECAUSE):
                found[because] = None
            elif _number(row.get(BUSY)) > MOST_BUSY:
                found[f"the load generator was busy for {_number(row[BUSY]):.0%} of a core, over {MOST_BUSY:.0%}"] = (
                    None
                )
    return list(found)


def _number(cell: str | None) -> float:
    try:
        return float(cell or 0)
    except ValueError:
        raise RunError(f"{BUSY} is {cell!r}; expected a share of a core.") from None
