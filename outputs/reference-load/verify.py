#!/usr/bin/env python3
"""Check this run with Python 3.11 or newer and nothing else: python3 verify.py [--json]

Recomputes every record from its raw file, checks every file's sha256, and compares every number that the pages and
notebooks show with its record. Exit code 0: all holds; 1: something does not; 2: wrong usage.

Below stand, text for text, the modules of bankllm that `bankllm verify` uses. A hash is no signature: whoever can
replace this file, too, can make it say anything. Take it from a run or an installation that you trust, or read it.
"""

import os
import sys

if sys.version_info < (3, 11):
    sys.exit("verify.py needs Python 3.11 or newer.")
if __name__ == "__main__":  # a csv.py that somebody put beside this file is evidence, and no module
    HERE = os.path.dirname(os.path.realpath(__file__))
    sys.path = [place for place in sys.path if os.path.realpath(place) != HERE]

import json
import types
from pathlib import Path

SOURCES = {}

# -------------------- bankllm.errors --------------------
SOURCES['errors'] = r'''"""Every error that bankllm raises on purpose: each message says what was expected, what came, what to do."""


class BankLLMError(Exception):
    """Base of all errors below; the CLI prints it without a traceback and exits with `exit_code`."""

    exit_code = 1


class UsageError(BankLLMError):
    """The call itself is wrong: an unknown profile, parameter or option."""

    exit_code = 2


class DataError(BankLLMError):
    """A data set is missing, damaged, or not the one that is meant."""


class DataMissing(DataError):
    """A data set is not on this machine and could not be fetched (nothing is damaged)."""


class ModelError(BankLLMError):
    """A base model or an adapter is missing, damaged, or not the one that is meant."""


class StoreError(BankLLMError):
    """A vector store or ledger cannot be read or written."""


class ServerError(BankLLMError):
    """A server could not be started or did not answer."""


class RunError(BankLLMError):
    """A run's folder cannot be written, is incomplete, or does not hold what it should."""


class NotMeasured(BankLLMError):
    """Something that a measurement needs is absent here (a tool, a device, a key): the record says so."""
'''

# -------------------- bankllm.evidence.conform --------------------
SOURCES['conform'] = r'''"""Does a JSON document fit its published schema? The part of JSON Schema that the schemas in `schema/` use.

Standard library alone; a part of every run's own `verify.py`, where pydantic is not at hand.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bankllm_check.errors import RunError

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}


def parse_json(text: str) -> Any:
    """JSON as the standard has it: no NaN, and no key twice (of which a reader would see but one)."""
    return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)


def fault(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None, at: str = "") -> str | None:
    """What does not fit, and where; None if all does. Raises `RunError` for a keyword that is not known here."""
    root = schema if root is None else root
    if "$ref" in schema:
        return fault(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, at)
    where = f" at {at}" if at else ""
    for keyword, wanted in schema.items():
        found = None
        match keyword:
            case "title" | "description" | "default" | "$defs" | "$schema" | "$id" | "properties" | "prefixItems":
                pass
            case "type":
                if not isinstance(value, TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
                    found = f"expected {wanted}, found {json.dumps(value)[:40]}"
            case "const":
                if value != wanted or type(value) is not type(wanted):
                    found = f"expected {wanted!r}, found {value!r}"
            case "enum":
                if value not in wanted:
                    found = f"expected one of {', '.join(map(str, wanted))}, found {value!r}"
            case "anyOf":
                faults = [fault(value, choice, root, at) for choice in wanted]
                if None not in faults:
                    return faults[0]
            case "minimum":
                if isinstance(value, int | float) and value < wanted:
                    found = f"expected {wanted} or more, found {value}"
            case "minItems" | "maxItems":
                if isinstance(value, list) and (len(value) < wanted if keyword == "minItems" else len(value) > wanted):
                    found = f"expected {wanted} items, found {len(value)}"
            case "format" if wanted == "date-time":
                if isinstance(value, str) and not _is_time(value):
                    found = f"expected a time, found {value!r}"
            case "required":
                if isinstance(value, dict) and (missing := [name for name in wanted if name not in value]):
                    found = f"{', '.join(missing)} missing"
            case "items" | "additionalProperties":
                pass
            case _:
                raise RunError(f"The schema uses {keyword!r}, which this verifier does not know.")
        if found:
            return found + where
    return _fault_inside(value, schema, root, at)


def _fault_inside(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str) -> str | None:
    """The first fault among the members of an object, or the items of an array."""
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        parts = [(name, item, known.get(name, others)) for name, item in value.items()]
    elif isinstance(value, list):
        first = schema.get("prefixItems", [])
        others = schema.get("items", True)
        parts = [(str(i), item, first[i] if i < len(first) else others) for i, item in enumerate(value)]
    for name, item, wanted in parts:
        here = f"{at}.{name}" if at else name
        if wanted is False:
            return f"{here} is not known"
        if wanted is not True and (found := fault(item, wanted, root, here)):
            return found
    return None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice")
    return made


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
'''

# -------------------- bankllm.evidence.estimate --------------------
SOURCES['estimate'] = r'''"""What every statistic gives, and what several of them need: Wilson's interval, a column's numbers.

Standard library alone; `statistics.py` holds the list of all statistics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

Rows = Sequence[dict[str, str]]
Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Estimate:
    """A value with its number of samples and 95 % interval; `why_no_ci95` or `invalid_because` say what is missing."""

    value: float | None
    n: int
    ci95: tuple[float, float] | None = None
    why_no_ci95: str | None = None
    invalid_because: str | None = None


def no_rows() -> Estimate:
    """What a statistic of nothing is."""
    return Estimate(None, 0, invalid_because="no rows")


def numbers(rows: Rows, column: str) -> list[float]:
    """A column as numbers. Raises `KeyError` or `ValueError` where it is missing or holds something else."""
    return [float(row[column]) for row in rows]


def wilson(hits: int, n: int) -> Estimate:
    """A share with Wilson's score interval (doi 10.1080/01621459.1927.10502953), which stays inside 0 … 1."""
    if n == 0:
        return no_rows()
    share = hits / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return Estimate(share, n, (max(0.0, centre - half), min(1.0, centre + half)))


def t95(freedom: int) -> float:
    """Student's t at 0.975, from the closed form of its distribution for whole degrees of freedom.

    Source: Abramowitz & Stegun, 26.7.3 and 26.7.4; solved by bisection to the last digits of a float.
    """
    if freedom < 1:
        raise ValueError(f"Student's t needs 1 degree of freedom or more, found {freedom}")
    low, high = 0.0, 13.0  # t95(1) is 12.71
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _t_inside(middle, freedom) < 0.95 else (low, middle)
    return high


def _t_inside(t: float, freedom: int) -> float:
    """P(|T| < t)."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
'''

# -------------------- bankllm.evidence.rows --------------------
SOURCES['rows'] = r'''"""Read the raw rows of a run as somebody who trusts neither the file nor its size.

Plain or gzip CSV, streamed: only the columns that a statistic needs are held, within a stated amount of memory.
Standard library alone; a part of every run's own `verify.py`.
"""

import csv
import gzip
import sys
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from bankllm_check.errors import RunError

FILE_BYTES = 256 * 2**20
"""The most that a raw file may hold once it is unpacked."""
HELD_BYTES = 128 * 2**20
"""The most memory that the cells of one table may take."""
ROWS = 1_000_000
"""The most rows of a raw file."""
LINE_CHARACTERS = 2**17
SHARED_VALUES = 4096
"""Of each column, so many distinct values are kept once however often they occur (labels, statuses)."""


class Table(Sequence[dict[str, str]]):
    """Rows by column: `table[i]` and iteration give them as `csv.DictReader` would."""

    def __init__(self, columns: Mapping[str, list[str]], length: int) -> None:
        self._columns = columns
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            places = range(self._length)[index]
            return Table({name: cells[index] for name, cells in self._columns.items()}, len(places))
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return {name: cells[index] for name, cells in self._columns.items()}

    def __iter__(self) -> Iterator[dict[str, str]]:
        if not self._columns:
            return ({} for _ in range(self._length))
        names = list(self._columns)
        return (dict(zip(names, cells, strict=True)) for cells in zip(*self._columns.values(), strict=True))

    def select(self, columns: Collection[str]) -> "Table":
        """Only these columns, where there are such."""
        return Table({name: cells for name, cells in self._columns.items() if name in columns}, self._length)

    def where(self, values: Mapping[str, str], name: str) -> "Table":
        """Only rows that hold these values, compared as text. Raises `RunError` for a column that `name` lacks."""
        missing = sorted(set(values) - set(self._columns))
        if missing:
            raise RunError(f"{name} has no column {', '.join(missing)}.")
        if not values:
            return self
        wanted = tuple(values.values())
        cells = zip(*(self._columns[column] for column in values), strict=True)
        kept = [i for i, found in enumerate(cells) if found == wanted]
        return Table({column: [all_of[i] for i in kept] for column, all_of in self._columns.items()}, len(kept))


def inside(folder: Path, name: str) -> Path:
    """The file of that name in a run's folder. Raises `RunError` for one that leads out of it, or is a link."""
    path = folder / name
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
        raise RunError(f"{name} lies outside the run's folder. The files of a run must lie in it.")
    if any((folder / Path(*parts[:depth])).is_symlink() for depth in range(1, len(parts) + 1)):
        raise RunError(f"{name} is a link. The files of a run must lie in its folder, which can then be copied.")
    return path


def read_table(path: Path, name: str, columns: Collection[str] | None = None) -> Table:
    """The rows of a raw file; of `columns` those that it has, or all.

    Raises `RunError` naming the line that cannot be read, or where the file holds more than is read.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            text = TextIOWrapper(file, encoding="utf-8", newline="")
            return _collect(csv.reader(_lines(text, name), strict=True), name, columns)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RunError(f"{name} cannot be read as CSV text ({type(error).__name__}: {error}).") from error


def _lines(text: TextIOWrapper, name: str) -> Iterator[str]:
    """Lines, as long as they and their sum stay within bounds: a gzip file of a megabyte may unpack to a thousand."""
    read = 0
    while line := text.readline(LINE_CHARACTERS):
        read += len(line)
        if len(line) == LINE_CHARACTERS:
            raise RunError(f"{name} holds a line of more than {LINE_CHARACTERS:,} characters: not rows of a run.")
        if read > FILE_BYTES:
            raise RunError(f"{name} unpacks to more than {FILE_BYTES // 2**20} MiB; so large a file is not read.")
        yield line


def _collect(reader: Any, name: str, columns: Collection[str] | None) -> Table:
    """The wanted columns of a `csv.reader`."""
    try:
        header = next(reader, None)
        if not header or len(set(header)) < len(header):
            raise RunError(f"{name} has no header of distinct columns.")
        places = [i for i, column in enumerate(header) if columns is None or column in columns]
        cells: list[list[str]] = [[] for _ in places]
        shared: list[dict[str, str]] = [{} for _ in places]
        length = held = 0
        for row in reader:
            if len(row) != len(header):
                if not row:
                    continue
                raise RunError(f"{name}, line {reader.line_num}: expected {len(header)} cells, found {len(row)}.")
            length += 1
            for column, known, place in zip(cells, shared, places, strict=True):
                cell = row[place]
                if (old := known.get(cell)) is None:
                    held += sys.getsizeof(cell)
                    if len(known) < SHARED_VALUES:
                        known[cell] = cell
                else:
                    cell = old
                column.append(cell)
            held += 8 * len(places)
            if length > ROWS:
                raise RunError(f"{name} holds more than {ROWS:,} rows; split it into parts.")
            if held > HELD_BYTES:
                raise RunError(f"{name} needs more than {HELD_BYTES // 2**20} MiB of memory; split it into parts.")
    except csv.Error as error:
        raise RunError(f"{name}, line {reader.line_num}: {error}.") from error
    return Table({header[i]: column for i, column in zip(places, cells, strict=True)}, length)
'''

# -------------------- bankllm.evidence.classification --------------------
SOURCES['classification'] = r'''"""Statistics of classifiers: how often right, how sure of it, how like each other, how wary of foreign questions.

A row is one text: `actual` and `predicted` label names, `confidence` 0 … 1, `seed` where several trainings share
the file. Standard library alone; registered in `statistics.py`.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from itertools import groupby
from statistics import fmean, stdev, variance

from bankllm_check.estimate import Z95, Estimate, Rows, no_rows, numbers, t95, wilson


def accuracy(rows: Rows, predicted: str = "predicted", actual: str = "actual") -> Estimate:
    """Share of rows whose prediction is right, with Wilson's score interval."""
    return wilson(sum(row[predicted] == row[actual] for row in rows), len(rows))


def macro_f1(rows: Rows, predicted: str = "predicted", actual: str = "actual") -> Estimate:
    """Mean over the classes of 2TP / (2TP + FP + FN); classes are those that occur as `actual` or `predicted`."""
    if not rows:
        return no_rows()
    true = Counter(row[actual] for row in rows if row[predicted] == row[actual])
    said = Counter(row[predicted] for row in rows)
    real = Counter(row[actual] for row in rows)
    scores = [2 * true[label] / (said[label] + real[label]) for label in sorted(said | real)]
    return Estimate(fmean(scores), len(rows), why_no_ci95="macro-F1 has no closed-form interval")


def accuracy_over_seeds(
    rows: Rows, seed: str = "seed", predicted: str = "predicted", actual: str = "actual"
) -> Estimate:
    """Mean accuracy of several trainings; `n` counts seeds.

    The interval, mean ± t s/√n by Student's t, is for another seed on the same texts: that other texts would give
    another accuracy is not in it (`accuracy` has that).
    """
    shares, problem = _by_seed(rows, seed, predicted, actual)
    if problem:
        return Estimate(None, len(shares), invalid_because=problem)
    average = fmean(shares)
    if len(shares) < 2:
        return Estimate(average, 1, why_no_ci95="one seed shows no spread")
    if not (spread := stdev(shares)):
        return Estimate(average, len(shares), why_no_ci95="every seed has the same accuracy: no spread to judge by")
    half = t95(len(shares) - 1) * spread / math.sqrt(len(shares))
    return Estimate(average, len(shares), (max(0.0, average - half), min(1.0, average + half)))


def accuracy_sd_over_seeds(
    rows: Rows, seed: str = "seed", predicted: str = "predicted", actual: str = "actual"
) -> Estimate:
    """Sample standard deviation (n − 1) of the accuracies of several trainings; `n` counts seeds."""
    shares, problem = _by_seed(rows, seed, predicted, actual)
    if len(shares) < 2 and not problem:
        problem = "a standard deviation needs 2 seeds, there is 1"
    if problem:
        return Estimate(None, len(shares), invalid_because=problem)
    return Estimate(stdev(shares), len(shares), why_no_ci95="the spread of a few seeds says little of its own error")


def _by_seed(rows: Rows, seed: str, predicted: str, actual: str) -> tuple[list[float], str | None]:
    """The accuracy of each seed, and what forbids comparing them."""
    hits: defaultdict[str, list[bool]] = defaultdict(list)
    for row in rows:
        hits[row[seed]].append(row[predicted] == row[actual])
    sizes = sorted({len(mine) for mine in hits.values()})
    problem = None if hits else "no rows"
    if len(sizes) > 1:
        problem = f"the seeds answered unlike numbers of texts ({sizes[0]} to {sizes[-1]})"
    return [fmean(mine) for mine in hits.values()], problem


def mcnemar(rows: Rows, a: str, b: str, actual: str = "actual") -> Estimate:
    """Exact two-sided McNemar test of two classifiers on the same texts: the p-value of "equally often right".

    Columns `a` and `b` hold their predictions. Of the texts that one alone has right, each would have half:
    P = 2 P(Binomial(b + c, ½) ≤ min(b, c)), at most 1, in whole numbers (doi 10.1007/BF02295996).
    """
    if not rows:
        return no_rows()
    only_a, only_b = _discordant(rows, a, b, actual)
    trials, fewer = only_a + only_b, min(only_a, only_b)
    ways = total = 1
    for k in range(1, fewer + 1):
        ways = ways * (trials - k + 1) // k
        total += ways
    return Estimate(min(1.0, 2 * total / 2**trials), len(rows), why_no_ci95="a p-value has no interval")


def accuracy_difference(rows: Rows, a: str, b: str, actual: str = "actual") -> Estimate:
    """Accuracy of `a` minus that of `b` on the same texts, with an interval for paired shares.

    Agresti & Min's adjusted Wald interval (doi 10.1002/sim.1781): half a text is added to each of the four cells,
    which keeps it near 95 % where few texts differ.
    """
    if not rows:
        return no_rows()
    only_a, only_b = _discordant(rows, a, b, actual)
    n = len(rows) + 2
    centre = (only_a - only_b) / n
    half = Z95 * math.sqrt(only_a + only_b + 1 - n * centre**2) / n
    return Estimate((only_a - only_b) / len(rows), len(rows), (max(-1.0, centre - half), min(1.0, centre + half)))


def _discordant(rows: Rows, a: str, b: str, actual: str) -> tuple[int, int]:
    """How many texts `a` alone has right, and `b` alone."""
    pairs = [(row[a] == row[actual], row[b] == row[actual]) for row in rows]
    return pairs.count((True, False)), pairs.count((False, True))


def expected_calibration_error(
    rows: Rows,
    confidence: str = "confidence",
    predicted: str = "predicted",
    actual: str = "actual",
    bins: int = 15,
) -> Estimate:
    """Mean distance of confidence from accuracy over equal-width bins ((m − 1)/M, m/M], weighted by their rows.

    Source: Guo et al., arXiv 1706.04599, equation 3.
    """
    if not rows:
        return no_rows()
    gaps = [0.0] * bins
    for sure, row in zip(numbers(rows, confidence), rows, strict=True):
        gaps[max(0, math.ceil(sure * bins) - 1)] += (row[predicted] == row[actual]) - sure
    return Estimate(sum(map(abs, gaps)) / len(rows), len(rows), why_no_ci95="a binned estimate, biased upwards")


def aurc(rows: Rows, confidence: str = "confidence", predicted: str = "predicted", actual: str = "actual") -> Estimate:
    """Area under the risk–coverage curve: the mean, over k, of the share of errors among the k surest rows.

    Source: Geifman & El-Yaniv, arXiv 1705.08500. Rows of one confidence share their errors evenly, so that their
    order in the file does not matter.
    """
    if not rows:
        return no_rows()
    ordered = sorted(((float(row[confidence]), row[predicted] != row[actual]) for row in rows), reverse=True)
    errors = 0.0
    risks: list[float] = []
    for _, group in groupby(ordered, key=lambda pair: pair[0]):
        tied = [wrong for _, wrong in group]
        for _ in tied:
            errors += sum(tied) / len(tied)
            risks.append(errors / (len(risks) + 1))
    return Estimate(fmean(risks), len(rows), why_no_ci95="the area has no closed-form interval")


def rejected(rows: Rows, threshold: float, confidence: str = "confidence") -> Estimate:
    """Share of rows whose confidence lies below the threshold (abstentions), with Wilson's score interval."""
    return wilson(sum(sure < threshold for sure in numbers(rows, confidence)), len(rows))


def recall_at_false_rejects(
    rows: Rows,
    false_rejects: float = 0.05,
    confidence: str = "confidence",
    column: str = "in_scope",
    inside: str = "yes",
    outside: str = "no",
) -> Estimate:
    """Share of out-of-scope rows rejected where at most a share `false_rejects` of the in-scope rows is.

    `column` tells the two apart; rows that hold neither value do not count. The threshold is the highest that
    these in-scope rows allow; Wilson's interval, over the out-of-scope rows, takes it as given.
    """
    kept, foreign = _scopes(rows, confidence, column, inside, outside)
    if not kept or not foreign:
        return _one_sided(column, kept, inside, outside)
    allowed = math.floor(false_rejects * len(kept) + 1e-9)
    threshold = kept[allowed] if allowed < len(kept) else math.inf
    return wilson(sum(sure < threshold for sure in foreign), len(foreign))


def auroc(
    rows: Rows, confidence: str = "confidence", column: str = "in_scope", inside: str = "yes", outside: str = "no"
) -> Estimate:
    """P(an in-scope row is surer than an out-of-scope one), ties counting half: Mann–Whitney's U over its maximum.

    The interval is DeLong's (doi 10.2307/2531595). Rows that hold neither value in `column` do not count.
    """
    kept, foreign = _scopes(rows, confidence, column, inside, outside)
    if not kept or not foreign:
        return _one_sided(column, kept, inside, outside)
    n = len(kept) + len(foreign)
    above = [_share_below(sure, foreign) for sure in kept]
    below = [1 - _share_below(sure, kept) for sure in foreign]
    area = fmean(above)
    if min(len(kept), len(foreign)) < 2:
        return Estimate(area, n, why_no_ci95="DeLong's interval needs two rows of each kind")
    half = Z95 * math.sqrt(variance(above) / len(above) + variance(below) / len(below))
    if half == 0:
        return Estimate(area, n, why_no_ci95="the rows leave no spread to judge by")
    return Estimate(area, n, (max(0.0, area - half), min(1.0, area + half)))


def _scopes(rows: Rows, confidence: str, column: str, inside: str, outside: str) -> tuple[list[float], list[float]]:
    """The confidences of both kinds of rows, ascending."""
    kinds: dict[str, list[float]] = {inside: [], outside: []}
    for row in rows:
        if row[column] in kinds:
            kinds[row[column]].append(float(row[confidence]))
    return sorted(kinds[inside]), sorted(kinds[outside])


def _one_sided(column: str, kept: list[float], inside: str, outside: str) -> Estimate:
    missing = outside if kept else inside
    return Estimate(None, 0, invalid_because=f"no rows with {column} = {missing}")


def _share_below(value: float, ordered: list[float]) -> float:
    return (bisect_left(ordered, value) + bisect_right(ordered, value)) / (2 * len(ordered))
'''

# -------------------- bankllm.evidence.statistics --------------------
SOURCES['statistics'] = r'''"""The statistics that a record may name: pure functions from the rows of a raw CSV file to an `Estimate`.

Standard library alone, so that a sceptic can check a run without installing anything. Rows are
`dict[str, str]` as `csv.DictReader` gives them. `STATISTICS` is the list of all that may be named.
"""

import math
import random
from collections.abc import Callable
from functools import cache
from statistics import fmean, median, stdev
from typing import Any

from bankllm_check.classification import (
    accuracy,
    accuracy_difference,
    accuracy_over_seeds,
    accuracy_sd_over_seeds,
    aurc,
    auroc,
    expected_calibration_error,
    macro_f1,
    mcnemar,
    recall_at_false_rejects,
    rejected,
)
from bankllm_check.estimate import Z95, Estimate, Rows, no_rows, numbers, wilson

STANDS = 0.95
"""Of an offered rate that must be achieved, for `knee`."""


def count(rows: Rows) -> Estimate:
    """How many rows there are."""
    return Estimate(len(rows), len(rows), why_no_ci95="a count, not a sample")


def single(rows: Rows, column: str) -> Estimate:
    """The one value of a column, for things measured once (a file's bytes, a training run's seconds)."""
    if len(rows) != 1:
        return Estimate(None, len(rows), invalid_because=f"expected one row, found {len(rows)}")
    return Estimate(float(rows[0][column]), 1, why_no_ci95="measured once")


def maximum(rows: Rows, column: str) -> Estimate:
    """The largest value of a column."""
    if not rows:
        return no_rows()
    return Estimate(max(numbers(rows, column)), len(rows), why_no_ci95="a maximum has no interval")


def mean(rows: Rows, column: str) -> Estimate:
    """Arithmetic mean; the interval is mean ± 1.96 s/√n (central limit theorem), from 30 samples on."""
    if not rows:
        return no_rows()
    values = numbers(rows, column)
    average = fmean(values)
    if len(values) < 30:
        return Estimate(average, len(values), why_no_ci95="fewer than 30 samples")
    half = Z95 * stdev(values) / math.sqrt(len(values))
    return Estimate(average, len(values), (average - half, average + half))


def percentile(rows: Rows, column: str, q: float) -> Estimate:
    """The empirical percentile (nearest rank) with its order-statistic interval.

    Below `samples_needed(q)` rows the value is None: MLPerf Inference's early-stopping rule at 99 %
    confidence. The interval takes the ranks nq ± 1.96 √(nq(1 − q)), the normal approximation of the
    binomial interval for a quantile (Practical Nonparametric Statistics, 3rd ed., section 3.2).
    """
    needed = samples_needed(q)
    n = len(rows)
    if n < needed:
        return Estimate(None, n, invalid_because=f"p{100 * q:g} needs {needed} samples, there are {n}")
    values = sorted(numbers(rows, column))
    spread = Z95 * math.sqrt(n * q * (1 - q))
    low = max(1, math.floor(n * q - spread))
    high = min(n, math.ceil(n * q + spread) + 1)
    return Estimate(values[max(1, math.ceil(n * q)) - 1], n, (values[low - 1], values[high - 1]))


@cache
def samples_needed(q: float) -> int:
    """The fewest samples for a percentile: P(Binomial(n, 1 − q) ≤ 1) ≤ 0.01.

    Source: MLCommons Inference rules, "early stopping", c = 0.99, d = 0, one sample over the bound.
    """
    if not 0 < q < 1:
        raise ValueError(f"q must lie between 0 and 1, found {q}")
    n = 1
    while q**n + n * (1 - q) * q ** (n - 1) > 0.01:
        n += 1
    return n


def proportion(rows: Rows, column: str, equals: str) -> Estimate:
    """Share of rows in which `column` is `equals`, with Wilson's score interval."""
    return wilson(sum(row[column] == equals for row in rows), len(rows))


def throughput(rows: Rows, start: str, end: str) -> Estimate:
    """Rows a second between the first start and the last end (columns in seconds on one clock)."""
    if not rows:
        return no_rows()
    span = max(numbers(rows, end)) - min(numbers(rows, start))
    if span <= 0:
        return Estimate(None, len(rows), invalid_because="the rows span no time")
    return Estimate(len(rows) / span, len(rows), why_no_ci95="one run; its requests are not independent")


def rate(rows: Rows, amount: str, seconds: str) -> Estimate:
    """How much was done a second: one column's sum over the sum of another, for work done piece after piece."""
    if not rows:
        return no_rows()
    spent = math.fsum(numbers(rows, seconds))
    if spent <= 0:
        return Estimate(None, len(rows), invalid_because="the rows took no time")
    return Estimate(
        math.fsum(numbers(rows, amount)) / spent, len(rows), why_no_ci95="one run; its pieces are not alike"
    )


def histogram_quantile(rows: Rows, bound: str, cumulative: str, q: float) -> Estimate:
    """A quantile from cumulative buckets, interpolated as PromQL's `histogram_quantile` does it.

    Each row is one bucket: its upper bound (`+Inf` for the last) and how many observations lie at or below it.
    """
    buckets = sorted((float(row[bound]), float(row[cumulative])) for row in rows)
    n = round(buckets[-1][1]) if buckets else 0
    if n < samples_needed(q):
        because = f"p{100 * q:g} needs {samples_needed(q)} samples, there are {n}"
        return Estimate(None, n, invalid_because=because)
    rank = q * buckets[-1][1]
    below, lower = 0.0, 0.0
    for upper, reached in buckets:
        if reached >= rank:
            break
        below, lower = reached, upper
    if math.isinf(upper):
        return Estimate(lower, n, why_no_ci95="above the last finite bucket")
    value = lower + (upper - lower) * (rank - below) / (reached - below)
    return Estimate(value, n, why_no_ci95=f"read off buckets: it lies between {lower:g} and {upper:g}")


def goodput(rows: Rows, start: str, end: str, latency: str, error: str, objective_ms: float) -> Estimate:
    """Requests a second that were answered without an error and within the objective (times in seconds, one clock).

    What "goodput" means in vLLM's and NVIDIA's serving benchmarks: those that miss the objective count for nothing.
    """
    if not rows:
        return no_rows()
    span = max(numbers(rows, end)) - min(numbers(rows, start))
    if span <= 0:
        return Estimate(None, len(rows), invalid_because="the rows span no time")
    good = sum(not row[error] and float(row[latency]) <= objective_ms for row in rows)
    return Estimate(good / span, len(rows), why_no_ci95="one run; its requests are not independent")


def knee(
    rows: Rows, offered: str, start: str, end: str, latency: str, error: str, objective_ms: float, q: float = 0.95
) -> Estimate:
    """The highest offered rate that the server stood, below the first that it did not; one sweep's rows.

    A rate stands if percentile `q` of the latency is within the objective, no request failed, and the last reply
    came soon enough after the last request was due that `STANDS` of the rate was achieved (no queue was left over).
    Source: the Server scenario of MLPerf Inference (arXiv 1911.02549), whose figure is the highest Poisson rate at
    which a percentile of the latency is within a bound.
    """
    if not rows:
        return no_rows()
    steps: dict[float, list[dict[str, str]]] = {}
    for row in rows:
        steps.setdefault(float(row[offered]), []).append(row)
    highest = None
    for rate in sorted(steps):
        found = percentile(steps[rate], latency, q)
        if found.value is None:
            return Estimate(None, len(rows), invalid_because=f"at {rate:g}/s {found.invalid_because}")
        due = numbers(steps[rate], start)
        achieved = (max(due) - min(due)) / (max(numbers(steps[rate], end)) - min(due))
        if found.value > objective_ms or achieved < STANDS or any(row[error] for row in steps[rate]):
            if highest is None:
                return Estimate(None, len(rows), invalid_because=f"{rate:g}/s, the lowest rate, was already too much")
            return Estimate(highest, len(rows), why_no_ci95=f"one sweep: {rate:g}/s was too much, none between")
        highest = rate
    return Estimate(highest, len(rows), invalid_because="no rate was too much: the knee lies higher")


def growth(rows: Rows, at: str, value: str) -> Estimate:
    """By what share a column grew: the median of the last third over that of the first, less 1.

    The first minute, or the first fifth of a shorter series, is left out: allocators and caches fill in it.
    """
    last = max(numbers(rows, at), default=0.0)
    kept = [float(row[value]) for row in rows if float(row[at]) >= min(60.0, 0.2 * last)]
    if len(kept) < 6:
        return Estimate(None, len(kept), invalid_because=f"6 samples are needed after warming up, found {len(kept)}")
    third = len(kept) // 3
    share = median(kept[-third:]) / median(kept[:third]) - 1
    return Estimate(share, len(kept), why_no_ci95="one series; its samples are not independent")


def across(rows: Rows, group: str, pick: str, of: str, **parameters: Any) -> Estimate:
    """Another statistic applied to each group of rows: the `min`, `median` or `max` of what it gives, or the `spread`.

    The spread is (largest − smallest) / median: by how much repeated runs, or tools that measure the same, disagree.
    """
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row[group], []).append(row)
    found = {name: STATISTICS[of](mine, **parameters) for name, mine in groups.items()}
    values = [estimate.value for estimate in found.values() if estimate.value is not None]
    if len(values) < max(2, len(found)):
        because = [f"{name}: {estimate.invalid_because}" for name, estimate in found.items() if estimate.value is None]
        return Estimate(
            None, len(rows), invalid_because="; ".join(because) or f"two groups are needed, found {len(found)}"
        )
    picks = {"min": min(values), "median": median(values), "max": max(values)}
    picks["spread"] = (picks["max"] - picks["min"]) / picks["median"] if picks["median"] else math.inf
    return Estimate(picks[pick], len(rows), why_no_ci95=f"{pick} of {len(values)}: {group} {', '.join(found)}")


def bootstrap(rows: Rows, of: str, resamples: int = 1000, seed: int = 0, **parameters: Any) -> Estimate:
    """Another statistic with the percentile interval of the bootstrap, for those that have no closed-form one.

    Rows are drawn again with replacement, `resamples` times; the interval takes the 2.5th and 97.5th percentile of
    what comes out. The seed is part of the record, and Python keeps `random()` the same from release to release.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    statistic = STATISTICS[of]
    found = statistic(rows, **parameters)
    if found.value is None:
        return found
    if len(rows) < 30:
        return Estimate(found.value, found.n, why_no_ci95="fewer than 30 samples")
    draw, n = random.Random(seed).random, len(rows)
    held = list(rows)
    drawn = ([held[int(draw() * n)] for _ in range(n)] for _ in range(resamples))
    values = sorted(value for sample in drawn if (value := statistic(sample, **parameters).value) is not None)
    low, high = values[math.floor(0.025 * (len(values) - 1))], values[math.ceil(0.975 * (len(values) - 1))]
    return Estimate(found.value, found.n, (low, high))


STATISTICS: dict[str, Callable[..., Estimate]] = {
    function.__name__: function
    for function in (
        count,
        single,
        maximum,
        mean,
        percentile,
        proportion,
        throughput,
        rate,
        histogram_quantile,
        accuracy,
        macro_f1,
        accuracy_over_seeds,
        accuracy_sd_over_seeds,
        mcnemar,
        accuracy_difference,
        expected_calibration_error,
        aurc,
        rejected,
        recall_at_false_rejects,
        auroc,
        goodput,
        knee,
        growth,
        across,
        bootstrap,
    )
}
'''

# -------------------- bankllm.evidence.recompute --------------------
SOURCES['recompute'] = r'''"""Apply a named statistic to a raw file, after checking that the file is the one that is meant.

Standard library alone: `bankllm verify` and every run's own `verify.py` do the same as the notebook did.
"""

import hashlib
import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bankllm_check.errors import RunError
from bankllm_check.estimate import Estimate
from bankllm_check.rows import FILE_BYTES, Table, inside, read_table
from bankllm_check.statistics import STATISTICS


class RawFiles:
    """The raw files of a run; each is hashed once, and the last one read is kept for the next record."""

    def __init__(self, folder: Path, wanted: Mapping[str, Collection[str]] | None = None) -> None:
        """`wanted` maps a path to all the columns that will be asked for, so that its file is read once."""
        self.folder = folder
        self._wanted = wanted or {}
        self._hashes: dict[str, str] = {}
        self._last: tuple[str, Table] | None = None

    def sha256(self, name: str) -> str:
        """Of a file of the run. Raises `RunError` where it is missing, too large, or lies elsewhere."""
        if name not in self._hashes:
            path = inside(self.folder, name)
            if not path.is_file():
                raise RunError(f"{name} is missing. A record without its raw file cannot be checked.")
            try:
                if (size := path.stat().st_size) > FILE_BYTES:
                    raise RunError(f"{name} holds {size // 2**20} MiB; so large a file is not read.")
                self._hashes[name] = sha256_file(path)
            except OSError as error:
                raise RunError(f"{name} cannot be read ({error}).") from error
        return self._hashes[name]

    def rows(self, name: str, sha256: str, where: Mapping[str, str], columns: Collection[str] | None) -> Table:
        """The rows that hold the values of `where`; of `columns` those that the file has, or all.

        Raises `RunError` if the file left the folder, is missing, was changed or cannot be read.
        """
        if (found := self.sha256(name)) != sha256:
            raise RunError(f"{name} was changed: expected sha256 {sha256[:12]}…, found {found[:12]}….")
        needed = None if columns is None else {*columns, *where}
        together = self._wanted.get(name)
        if needed is None or together is None or not needed <= set(together):
            return read_table(self.folder / name, name, needed).where(where, name)
        if self._last is None or self._last[0] != name:
            self._last = None  # one table at a time is held
            self._last = (name, read_table(self.folder / name, name, together))
        return self._last[1].select(needed).where(where, name)

    def estimate(
        self, name: str, sha256: str, where: Mapping[str, str], statistic: str, parameters: Mapping[str, Any]
    ) -> Estimate:
        """What the statistic gives. Raises `RunError` where the file or a column is not what the record says."""
        if statistic not in STATISTICS:
            raise RunError(f"Unknown statistic {statistic!r}. Expected one of: {', '.join(STATISTICS)}.")
        function = STATISTICS[statistic]
        rows = self.rows(name, sha256, where, needed_columns(statistic, parameters))
        try:
            return function(rows, **parameters)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise RunError(f"{name}: {statistic}({dict(parameters)}) cannot be applied: {error!r}.") from error


def needed_columns(statistic: str, parameters: Mapping[str, Any]) -> set[str]:
    """Every text among the arguments of a statistic, and of one that it applies: what may name a column."""
    functions = [STATISTICS[name] for name in (statistic, parameters.get("of")) if name in STATISTICS]
    defaults = [p.default for function in functions for p in inspect.signature(function).parameters.values()]
    return {value for value in (*defaults, *parameters.values()) if isinstance(value, str)}


def sha256_file(path: Path) -> str:
    """Of a file's bytes, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
'''

# -------------------- bankllm.evidence.rules --------------------
SOURCES['rules'] = r'''"""What a record may say beside its number: the unit that fits the statistic, and data that are what they are called.

Standard library alone; a part of every run's own `verify.py`.
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
"""Statistics whose unit is something a second."""
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
"""Last word of a column's name → the unit of what it holds."""
QUANTITIES = frozenset(("ms", "s", "bytes", "share", "p", "cosine", "%"))
"""Units that no plain count may carry."""

PERCENTILE_ID = re.compile(r"\bp(\d+(?:\.\d+)?)_ms\b")

MOST_BUSY = 0.9
"""The share of a core above which a load generator's own delay is in the figures."""

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
"""The data sets that `bankllm.datasets` knows by name: what `Dataset.conditions` says of each, whole."""
KNOWN_DATA["assistant(teller77)"] = KNOWN_DATA["teller77"]
HASHES = ("train_sha256", "test_sha256")
OWNERS = {facts["test_sha256"]: name for name, facts in reversed(KNOWN_DATA.items())}

KNOWN_MODELS = {"all-MiniLM-L6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
"""Last part of a base model's id → sha256 of its weights."""


def unit_fault(statistic: str, parameters: Mapping[str, Any], unit: str) -> str | None:
    """Why a record of that statistic cannot be in that unit; None where it can, or nothing is known of it."""
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
        return None if unit.endswith("/s") else f"{statistic} gives something a second, not {unit}"
    elif statistic == "rate":
        expected = f"{parameters.get('amount')}/s"
    elif statistic == "count":
        return f"a count is not in {unit}" if _is_quantity(unit) else None
    else:
        column = str(parameters.get("column") or parameters.get("bound") or "")
        if column.endswith(("_per_s", "_per_second")):
            return None if unit.endswith("/s") else f"{column} is something a second, not {unit}"
        expected = COLUMN_UNITS.get(column.rpartition("_")[2])
        if expected is None and _is_quantity(unit) and len(column) > 1:
            return f"{column} says nothing of {unit}"
    return f"the unit is {expected}, not {unit}" if expected not in (None, unit) else None


def name_fault(id: str, parameters: Mapping[str, Any]) -> str | None:
    """Why a record cannot have its id: `p95_ms` names percentile 0.95."""
    named = PERCENTILE_ID.search(id)
    if named and "q" in parameters and abs(float(named[1]) - 100 * parameters["q"]) > 1e-9:
        return f"is called p{named[1]}, but is percentile {100 * parameters['q']:g}"
    return None


def data_fault(conditions: Mapping[str, Any]) -> str | None:
    """Why the data set cannot be the one that it is called; None where it can."""
    name = str(conditions.get("dataset", ""))
    base, _, selection = name.partition("[")
    facts = KNOWN_DATA.get(base)
    if facts is None:
        owner = OWNERS.get(str(conditions.get("test_sha256")))
        return f"the files of {owner} are called {name or 'nothing'}" if owner else None
    checked = HASHES if selection else tuple(facts)
    for key in checked:
        if conditions.get(key) != facts[key]:
            return f"{name} has {key} {facts[key]}, not {conditions.get(key)}"
    return None


def model_fault(conditions: Mapping[str, Any]) -> str | None:
    """Why the base model cannot be the one that it is called; None where it can."""
    name = str(conditions.get("model", ""))
    expected = KNOWN_MODELS.get(name.rpartition("/")[2])
    found = conditions.get("model_sha256")
    if expected and found != expected:
        return f"{name} has weights with sha256 {expected[:12]}…, not {str(found)[:12]}…"
    if not expected and found in KNOWN_MODELS.values():
        return f"the weights of {next(iter(KNOWN_MODELS))} are called {name or 'nothing'}"
    return None


def _is_quantity(unit: str) -> bool:
    return unit in QUANTITIES or unit.endswith("/s")
'''

# -------------------- bankllm.evidence.validity --------------------
SOURCES['validity'] = r'''"""Why a number must not be used, read again from the raw files: a mark cannot be taken off a record unseen.

A notebook's own marks lie in `raw/<number>_marks.csv`; a load's summary lies beside its rows and tells how busy the
generator was. What the statistic itself finds wanting comes on top. Standard library alone.
"""

from collections.abc import Sequence
from pathlib import Path

from bankllm_check.errors import RunError
from bankllm_check.rows import inside, read_table
from bankllm_check.rules import MOST_BUSY

MARKS = "_marks.csv"
SUMMARY = "_summary"
BUSY, BECAUSE = "generator_cpu_share", "invalid_because"


def reasons(mark: str | None, load: Sequence[str], statistic: str | None) -> str | None:
    """All that forbids the use of a number, each said once; None where nothing does."""
    said: list[str] = []
    for reason in (mark, *load, statistic):
        if reason and not any(reason in earlier for earlier in said):
            said.append(reason)
    return "; ".join(said) or None


def marks(folder: Path) -> dict[str, str]:
    """Id of a record → why its notebook forbade its use."""
    found: dict[str, str] = {}
    for path in sorted((folder / "raw").glob(f"*{MARKS}")):
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
'''

# -------------------- bankllm.evidence.checks --------------------
SOURCES['checks'] = r'''"""Check each record of a run: recompute it, and apply every rule that says whether it counts.

Standard library alone: `bankllm verify` and every run's own `verify.py` are this code.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from bankllm_check.errors import RunError
from bankllm_check.conform import fault, parse_json
from bankllm_check.estimate import Estimate
from bankllm_check.recompute import RawFiles, needed_columns
from bankllm_check.rows import inside
from bankllm_check.rules import data_fault, model_fault, name_fault, unit_fault
from bankllm_check.validity import load_faults, marks, reasons

RELATIVE_TOLERANCE = 1e-9
"""Between a recorded and a recomputed value: nothing but the last digits of a float may differ."""
TEXT_BYTES = 64 * 2**20
"""The most that a file other than raw rows may hold to be read."""
RECORDS = "records.jsonl"

Status = Literal["ok", "does not hold", "invalid", "not measured"]


@dataclass(frozen=True)
class Finding:
    """What became of one record, or of one file of the run."""

    subject: str
    status: Status
    detail: str

    @property
    def holds(self) -> bool:
        return self.status != "does not hold"


@dataclass(frozen=True)
class Verdict:
    """All findings of a run."""

    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)

    def count(self, status: Status) -> int:
        return sum(finding.status == status for finding in self.findings)

    def summary(self) -> str:
        counts = ", ".join(f"{self.count(s)} {s}" for s in ("ok", "invalid", "not measured", "does not hold"))
        return f"{'HOLDS' if self.holds else 'DOES NOT HOLD'}: {counts}"


@dataclass(frozen=True)
class Rows:
    """`raw` of a record."""

    path: str
    sha256: str
    where: Mapping[str, str]


@dataclass(frozen=True)
class Claimed:
    """A line of `records.jsonl` that fits the schema; the fields are `records.Record`'s."""

    id: str
    title: str
    notebook: str
    value: float | None
    unit: str
    n: int
    ci95: tuple[float, float] | None
    why_no_ci95: str | None
    statistic: str | None
    parameters: Mapping[str, Any]
    raw: Rows | None
    conditions: Mapping[str, Any]
    valid: bool
    invalid_because: str | None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Claimed":
        known = {field.name: document[field.name] for field in fields(cls)}
        raw = known["raw"]
        return cls(**known | {"raw": raw and Rows(raw["path"], raw["sha256"], raw.get("where", {}))})


def broken(subject: str, detail: str) -> Finding:
    """A finding that something does not hold."""
    return Finding(subject, "does not hold", detail)


def read_text(folder: Path, name: str) -> str:
    """A small text file of the run. Raises `RunError` where it cannot be read as such."""
    path = inside(folder, name)
    try:
        if not path.is_file():
            raise RunError(f"{name} is missing.")
        if (size := path.stat().st_size) > TEXT_BYTES:
            raise RunError(f"{name} holds {size // 2**20} MiB; expected {TEXT_BYTES // 2**20} MiB at most.")
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{name} cannot be read as UTF-8 text ({error}).") from error


def newer(document: Any, read: int = 1) -> str | None:
    """What to do about a document of a later schema; None where it is not."""
    version = document.get("schema_version", read) if isinstance(document, dict) else read
    if isinstance(version, int) and not isinstance(version, bool) and version > read:
        return (
            f"was written by a newer bankllm (schema {version}, this one reads {read}); "
            "update bankllm, or run the verify.py in the run's folder"
        )
    return None


def read_claimed(folder: Path, schema: Mapping[str, Any]) -> tuple[list[Claimed], list[Finding]]:
    """The records that can be read, and a finding for each line that cannot."""
    try:
        lines = read_text(folder, RECORDS).split("\n")
    except RunError as error:
        return [], [broken(RECORDS, str(error))]
    records, findings = [], []
    for number, line in enumerate(lines, start=1):
        if not line and number == len(lines):
            continue
        try:
            document = parse_json(line)
            problem = newer(document) or fault(document, schema)
        except (ValueError, RecursionError) as error:
            problem = f"not JSON ({error})"
        if problem:
            findings.append(broken(f"{RECORDS}, line {number}", f"not a measurement record: {problem}"))
        else:
            records.append(Claimed.from_document(document))
    return records, findings


def check_records(folder: Path, records: Sequence[Claimed]) -> list[Finding]:
    """One finding a record, in their order, and one for each id that stands twice."""
    wanted: dict[str, set[str]] = {}
    for record in records:
        if record.raw and record.statistic:
            columns = needed_columns(record.statistic, record.parameters)
            wanted.setdefault(record.raw.path, set()).update(columns, record.raw.where)
    files = RawFiles(folder, wanted)
    marked = marks(folder)
    by_file = sorted(range(len(records)), key=lambda i: ((raw := records[i].raw) and raw.path) or "")
    found = {i: check_record(files, records[i], marked.get(records[i].id)) for i in by_file}
    ids = [record.id for record in records]
    repeated = [broken(id, "stands in records.jsonl more than once") for id in dict.fromkeys(ids) if ids.count(id) > 1]
    lost = [
        broken(id, f"is marked invalid in raw/ ({why}), and no record says so")
        for id, why in marked.items()
        if id not in ids
    ]
    return [*(found[i] for i in range(len(records))), *repeated, *lost]


def check_record(files: RawFiles, record: Claimed, mark: str | None) -> Finding:
    """Recompute one record; `mark` is why its notebook forbade its use."""
    if record.raw is None or record.statistic is None:
        if record.value is not None or record.valid or record.raw or record.statistic or record.ci95:
            return broken(record.id, "carries a value without a raw file and a statistic")
        if not record.invalid_because:
            return broken(record.id, "is not measured and does not say why")
        return Finding(record.id, "not measured", record.invalid_because)
    raw = record.raw
    try:
        again = files.estimate(raw.path, raw.sha256, raw.where, record.statistic, record.parameters)
        because = reasons(mark, load_faults(files.folder, raw.path), again.invalid_because)
    except RunError as error:
        return broken(record.id, str(error))
    problem = (
        _unlike(record, again)
        or _validity_fault(record, because)
        or unit_fault(record.statistic, record.parameters, record.unit)
        or name_fault(record.id, record.parameters)
        or data_fault(record.conditions)
        or model_fault(record.conditions)
        or _foreign(record)
    )
    if problem:
        return broken(record.id, problem)
    if because:
        return Finding(record.id, "invalid", because)
    return Finding(record.id, "ok", f"{again.value:g} {record.unit} from {again.n} rows of {raw.path}")


def _unlike(record: Claimed, again: Estimate) -> str | None:
    for what, recorded, recomputed in (
        ("value", record.value, again.value),
        ("lower end of the interval", (record.ci95 or (None,))[0], (again.ci95 or (None,))[0]),
        ("upper end of the interval", (record.ci95 or (None,))[-1], (again.ci95 or (None,))[-1]),
        ("n", record.n, again.n),
    ):
        if not _same(recorded, recomputed):
            return f"{what}: recorded {recorded}, recomputed {recomputed}"
    if record.why_no_ci95 != again.why_no_ci95:
        return f"why there is no interval: recorded {record.why_no_ci95!r}, recomputed {again.why_no_ci95!r}"
    return None


def _validity_fault(record: Claimed, because: str | None) -> str | None:
    if because and record.valid:
        return f"recorded as valid, but {because}"
    if record.invalid_because != because:
        return f"invalid because {record.invalid_because!r} is recorded, {because!r} found"
    if record.valid == bool(because):
        return "recorded as invalid, and nothing says why"
    return None


def _foreign(record: Claimed) -> str | None:
    """Raw files of a run carry their notebook's number."""
    name = (record.raw.path if record.raw else "").rpartition("/")[2]
    if name[:2].isdigit() and name[2:3] == "_" and name[:2] != record.notebook[:2]:
        return f"is said to come from notebook {record.notebook}, its rows from {name[:2]}"
    return None


def _same(recorded: float | None, recomputed: float | None) -> bool:
    if recorded is None or recomputed is None:
        return recorded is recomputed
    return math.isclose(recorded, recomputed, rel_tol=RELATIVE_TOLERANCE)
'''

# -------------------- bankllm.evidence.tokens --------------------
SOURCES['tokens'] = r'''r"""The marks that bind a number on a page to its record. Standard library alone.

Markdown  <!-- claim: chat.sequential.p95_ms dataset=banking77 profile=quick -->12.3 ms<!-- /claim -->
HTML      <data class="claim" value="chat.sequential.p95_ms">12.3 ms</data>
LaTeX     \claim{chat.sequential.p95_ms}{12.3~ms}, with \providecommand{\claim}[2]{#2}

An id may be followed by `#ci95` or `#n`. In Markdown conditions may follow that the record must fulfil.
"""

import html
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

ID = r"[\w.@-]+"
CLAIM = re.compile(
    rf"(?P<open><!-- claim: (?P<id>{ID})(?:#(?P<part>\w+))?(?P<conditions>(?: [^ >][^>]*?)?) -->)"
    r"(?P<text>.*?)(?P<close><!-- /claim -->)",
    re.DOTALL,
)
HTML_CLAIM = re.compile(rf'<data class="claim" value="(?P<id>{ID})(?:#(?P<part>\w+))?">(?P<text>.*?)</data>', re.DOTALL)
LATEX_CLAIM = re.compile(
    rf"\\claim\{{(?P<id>{ID})(?:\\?#(?P<part>\w+))?\}}\{{(?P<text>(?:\\.|[^{{}}\\]|\{{\}})*)\}}", re.DOTALL
)
RUN = re.compile(r"<!-- claims-run: (?P<run>\S+)(?P<conditions>(?: [^>]*?)?) -->")

TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "×": r"$\times$",
    "…": r"\dots{}",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}
"""Characters that LaTeX reads as its own, and how they are written."""

PLAIN = {written: plain for plain, written in TEX.items()}
WRITTEN = re.compile("|".join(re.escape(written) for written in sorted(PLAIN, key=len, reverse=True)))


@dataclass(frozen=True)
class Token:
    """One bound number: which record, which part of it, under which conditions, what the page says, and where."""

    id: str
    part: str
    text: str
    line: int
    conditions: str = ""


def markdown(id: str, text: str, part: str = "") -> str:
    """The token as it stands in Markdown."""
    return f"<!-- claim: {_name(id, part)} -->{text}<!-- /claim -->"


def hypertext(id: str, text: str, part: str = "") -> str:
    """The token as it stands in HTML, escaped."""
    return f'<data class="claim" value="{_name(id, part)}">{html.escape(text, quote=False)}</data>'


def latex(id: str, text: str, part: str = "") -> str:
    """The token as it stands in LaTeX, escaped."""
    return f"\\claim{{{id}{chr(92)}#{part}}}{{{tex(text)}}}" if part else f"\\claim{{{id}}}{{{tex(text)}}}"


def tex(text: str) -> str:
    """Plain text, escaped for LaTeX."""
    return "".join(TEX.get(character, character) for character in text)


def find_tokens(text: str) -> Iterator[Token]:
    """Every bound number of a page, Markdown, HTML and LaTeX alike; `text` is unescaped."""
    for pattern, plain in ((CLAIM, str), (HTML_CLAIM, html.unescape), (LATEX_CLAIM, _untex)):
        for match in pattern.finditer(text):
            yield Token(
                id=match["id"],
                part=match["part"] or "",
                text=plain(match["text"]),
                line=text.count("\n", 0, match.start()) + 1,
                conditions=match.groupdict().get("conditions") or "",
            )


def parse_conditions(words: str) -> dict[str, str]:
    """`dataset=banking77 profile=quick`; a value with spaces stands in quotes. Raises `ValueError` for other words."""
    found = {}
    for word in shlex.split(words):
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise ValueError(f"{word!r} is not a condition of the form name=value")
        found[key] = value
    return found


def _name(id: str, part: str) -> str:
    return f"{id}#{part}" if part else id


def _untex(text: str) -> str:
    return WRITTEN.sub(lambda match: PLAIN[match[0]], text)
'''

# -------------------- bankllm.evidence.figures_in_text --------------------
SOURCES['figures_in_text'] = r'''"""Find what looks like a measured figure in prose: a number with a unit of time, rate, size or share.

Bound numbers, code, comments and addresses are not prose. `claims` asks this of results sections, `scan` of any text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bankllm_check.tokens import CLAIM, HTML_CLAIM, LATEX_CLAIM

UNITS = {
    "ms": "ms",
    "milliseconds": "ms",
    "s": "s",
    "sec": "s",
    "second": "s",
    "seconds": "s",
    "min": "s",
    "minutes": "s",
    "h": "s",
    "hours": "s",
    "µs": "ms",
    "us": "ms",
    "%": "share",
    "percent": "share",
    "req/s": "requests/s",
    "reqs/s": "requests/s",
    "requests/s": "requests/s",
    "requests/second": "requests/s",
    "requests/sec": "requests/s",
    "rps": "requests/s",
    "qps": "requests/s",
    "queries/s": "requests/s",
    "texts/s": "texts/s",
    "KB": "bytes",
    "kB": "bytes",
    "MB": "bytes",
    "GB": "bytes",
    "KiB": "bytes",
    "MiB": "bytes",
    "GiB": "bytes",
    "×": "ratio",
    "x": "ratio",
}
"""How people write a unit → the unit of the records that could bear it out."""

UNIT = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
FIGURE = re.compile(
    rf"(?<![\w.,/=-])[~≈<>≤≥]? ?\d[\d,]*(?:\.\d+)?(?: ?[–-] ?\d[\d,]*(?:\.\d+)?)? ?(?P<unit>{UNIT})(?![\w/])"
)
LEVEL = re.compile(r" ?(?:confidence\b|intervals?\b|CI\b)")
"""What follows the 95 % of an interval, which is a convention and not a measurement."""
SIZE = re.compile(r" ?\d")
"""What follows the × of a size such as 15,000 × 384, which is no ratio."""

NOT_PROSE = re.compile(
    r"<!--.*?-->|```.*?```|`[^`\n]*`|\]\([^)\n]*\)|https?://\S+|\\label\{[^}]*\}|<style>.*?</style>", re.DOTALL
)
HEADING = re.compile(r"^(#{1,6}) (.*)$")
RESULTS = re.compile(r"\b(?:results?|figures|performance|measured)\b", re.IGNORECASE)
RESULTS_BEGIN, RESULTS_END = "<!-- results -->", "<!-- /results -->"
ELSEWHERE = re.compile(r"<!-- not measured here: [^>]+ -->")


@dataclass(frozen=True)
class Figure:
    """A measured-looking figure: where it stands, how it is written, and the unit of a record that would fit."""

    line: int
    column: int
    text: str
    unit: str


def find_figures(text: str) -> Iterator[Figure]:
    """Every unbound figure of a text, in order, but those in blocks marked `<!-- not measured here: source -->`."""
    exempt = _exempt_lines(text)
    for number, line in enumerate(prose(text).splitlines(), start=1):
        for match in FIGURE.finditer(line) if number not in exempt else ():
            unit = UNITS[match["unit"]]
            convention = {"share": LEVEL, "ratio": SIZE}.get(unit)
            if not (convention and convention.match(line, match.end())):
                yield Figure(number, match.start(), match[0].strip(), unit)


def figures_in_results(text: str) -> Iterator[Figure]:
    """Unbound figures of the results sections alone.

    Such a section is headed by a line with the word Results, Figures, Performance or Measured and ends at the next
    heading of its level, or stands between `<!-- results -->` and `<!-- /results -->`.
    """
    wanted = _results_lines(text)
    return (figure for figure in find_figures(text) if figure.line in wanted)


def prose(text: str) -> str:
    """The text with all that is bound, code, comment or address blanked; lines and columns stay where they are."""
    text = text.replace("\\%", " %")
    for pattern in (CLAIM, HTML_CLAIM, LATEX_CLAIM, NOT_PROSE):
        text = pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    return text


def _results_lines(text: str) -> set[int]:
    inside: set[int] = set()
    level, marked, code = 0, False, False
    for number, line in enumerate(text.splitlines(), start=1):
        code ^= line.lstrip().startswith("```")
        heading = None if code else HEADING.match(line)
        if heading and (not level or len(heading[1]) <= level):
            level = len(heading[1]) if RESULTS.search(heading[2]) else 0
        marked = (marked or RESULTS_BEGIN in line) and RESULTS_END not in line
        if level or marked:
            inside.add(number)
    return inside


def _exempt_lines(text: str) -> set[int]:
    """Lines of blocks that hold the mark; a mark that stands alone speaks of the block after it."""
    exempt: set[int] = set()
    block: list[tuple[int, str]] = []
    pending = False
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.strip():
            block.append((number, line))
            continue
        words = "\n".join(line for _, line in block)
        if block:
            if pending or ELSEWHERE.search(words):
                exempt |= {line_number for line_number, _ in block}
            pending = bool(ELSEWHERE.search(words)) and not ELSEWHERE.sub("", words).strip()
        block = []
    return exempt
'''

# -------------------- bankllm.evidence.words --------------------
SOURCES['words'] = r'''"""How a record reads: the same words on every page, in notebooks and in bound claims.

Standard library alone, and any object with a record's fields will do: the verifier that lies in a run's folder carries
this module and has no pydantic.
"""

from collections.abc import Mapping
from typing import Any, Protocol

PARTS = ("", "ci95", "n")
"""What a claim can show of a record: its value (`ID`), its interval (`ID#ci95`), its number of samples (`ID#n`)."""

COUNTED = ("parameters", "requests", "texts", "vectors", "messages")


class Shown(Protocol):
    """The fields of a record that a page shows."""

    @property
    def value(self) -> float | None: ...
    @property
    def unit(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def ci95(self) -> tuple[float, float] | None: ...
    @property
    def why_no_ci95(self) -> str | None: ...
    @property
    def statistic(self) -> str | None: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def raw(self) -> object: ...


def show(record: Shown, part: str = "") -> str:
    """What stands in a claim of that part. Raises `ValueError` for a part that is none of `PARTS`."""
    if part not in PARTS:
        raise ValueError(f"Unknown part {part!r} of a record. Expected one of: ci95, n, or none.")
    return {"": show_value, "ci95": show_interval, "n": show_n}[part](record)


def show_value(record: Shown) -> str:
    """`93.5 %`, `12.4 ms`, `1.2 MiB`; `not measured` where there is no value."""
    if record.value is None:
        return "not measured" if record.raw is None else "too few samples"
    return _quantity(record.value, record.unit)


def show_interval(record: Shown) -> str:
    """The 95 % interval in the record's unit, or why there is none."""
    if record.ci95 is None:
        return f"none: {record.why_no_ci95}" if record.why_no_ci95 else "–"
    low, high = (_quantity(end, record.unit) for end in record.ci95)
    unit = low.rpartition(" ")[2]
    return f"{low.removesuffix(' ' + unit)} – {high}" if high.endswith(unit) else f"{low} – {high}"


def show_n(record: Shown) -> str:
    """How many samples, e.g. `3,080`."""
    return f"{record.n:,}"


def describe_how(record: Shown) -> str:
    """The statistic and what it was applied to, e.g. `percentile of latency_ms, q = 0.95`."""
    if record.statistic is None:
        return "–"
    parameters = record.parameters
    column = f" of {parameters['column']}" if "column" in parameters else ""
    value = f" = {parameters['equals'] or '(empty)'}" if "equals" in parameters else ""
    q = f", q = {parameters['q']}" if "q" in parameters else ""
    name = "value" if record.statistic == "single" else record.statistic
    return f"{name}{column}{value}{q}"


def _quantity(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "bytes":
        return f"{value / 2**20:,.1f} MiB" if value >= 2**20 else f"{value / 2**10:,.1f} KiB"
    if unit in COUNTED:
        return f"{value:,.0f} {unit}"
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"
'''

# -------------------- bankllm.evidence.page_checks --------------------
SOURCES['page_checks'] = r'''"""Check what a run's pages and executed notebooks show: each number must be what its record says.

A bound number (`tokens.py`) must read as its record does. A measured-looking figure that is not bound must at least be
the figure of some record. Standard library alone: `bankllm verify` and every run's own `verify.py` are this code.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from bankllm_check.errors import RunError
from bankllm_check.checks import Claimed, Finding, broken, read_text
from bankllm_check.conform import parse_json
from bankllm_check.figures_in_text import find_figures
from bankllm_check.tokens import find_tokens
from bankllm_check.words import PARTS, describe_how, show, show_interval, show_value

PAGES = ("RESULTS.md", "RESULTS.html", "RESUME.md")
FROM_ELSEWHERE = re.compile(r"conditions|hardware|reported by others", re.IGNORECASE)
"""Headings of sections whose figures were not measured in this run; their bound numbers are checked all the same."""
HEADING = re.compile(r"#{1,6} (.*)")


class Shown:
    """What the records of a run may look like on a page."""

    def __init__(self, records: Sequence[Claimed]) -> None:
        self.records: Mapping[str, Claimed] = {record.id: record for record in records}
        phrases = (
            phrase
            for record in records
            for phrase in (
                show_value(record),
                show_interval(record),
                record.title,
                record.invalid_because or "",
                describe_how(record),
            )
        )
        self.figures = {figure.text for phrase in set(phrases) for figure in find_figures(phrase)}

    def faults_of_tokens(self, text: str) -> Iterator[str]:
        """Bound numbers that do not read as their records."""
        for token in find_tokens(text):
            record = self.records.get(token.id)
            if record is None or token.part not in PARTS:
                yield f"line {token.line}: {token.id} is no record of this run"
            elif token.text != (expected := show(record, token.part)):
                yield f"line {token.line}: {token.id} says {token.text!r}, the record {expected!r}"

    def faults_of_figures(self, text: str) -> Iterator[str]:
        """Figures that are neither bound nor any record's."""
        elsewhere = _lines_from_elsewhere(text)
        for figure in find_figures(text):
            if figure.text not in self.figures and figure.line not in elsewhere:
                yield f"line {figure.line}: {figure.text!r} is no record's"


def check_pages(folder: Path, names: Sequence[str], records: Sequence[Claimed]) -> list[Finding]:
    """A finding for each page and notebook among the files of the run."""
    shown = Shown(records)
    findings = []
    for name in names:
        if name in PAGES:
            faults = _faults_of_page
        elif name.startswith("notebooks/") and name.endswith(".ipynb"):
            faults = _faults_of_notebook
        else:
            continue
        try:
            found = list(faults(read_text(folder, name), shown))
        except RunError as error:
            found = [str(error)]
        findings += [broken(name, problem) for problem in found]
        if not found:
            findings.append(Finding(name, "ok", "every number that it shows is a record's"))
    return findings


def _faults_of_page(text: str, shown: Shown) -> Iterator[str]:
    yield from shown.faults_of_tokens(text)
    yield from shown.faults_of_figures(_as_markdown(text) if text.lstrip().startswith("<!doctype html>") else text)


def _as_markdown(page: str) -> str:
    """The words of an HTML page, a line for each block; bound numbers, which were checked, are left out."""
    page = re.sub(r"<(style|script)\b.*?</\1>|<data class=\"claim\".*?</data>", " ", page, flags=re.DOTALL)
    page = re.sub(r"<h[1-6][^>]*>(.*?)</h[1-6]>", r"\n\n## \1\n\n", page, flags=re.DOTALL)
    page = re.sub(r"</(?:tr|p|li|div|thead|table)>", "\n", page)
    return html.unescape(re.sub(r"<[^!][^>]*>", " ", page))


def _lines_from_elsewhere(text: str) -> set[int]:
    lines: set[int] = set()
    elsewhere = False
    for number, line in enumerate(text.splitlines(), start=1):
        if heading := HEADING.match(line):
            elsewhere = bool(FROM_ELSEWHERE.search(heading[1]))
        if elsewhere:
            lines.add(number)
    return lines


def _faults_of_notebook(text: str, shown: Shown) -> Iterator[str]:
    """What the tables of `Run.table` and Markdown outputs show."""
    try:
        cells = parse_json(text)["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        bundles = [output["data"] for output in outputs if "data" in output]
        parts = [{kind: _joined(part) for kind, part in bundle.items()} for bundle in bundles]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        yield f"is not a notebook ({error!r})"
        return
    for bundle in parts:
        yield from _faults_of_page(bundle.get("text/markdown", ""), shown)
        tables = _Tables.of(bundle.get("text/html", ""))
        for table in tables:
            yield from _faults_of_table(table, shown)
        if any(_columns(table) for table in tables):
            yield from shown.faults_of_figures(bundle.get("text/plain", ""))


def _joined(part: Any) -> str:
    return "".join(part) if isinstance(part, list) else part if isinstance(part, str) else ""


def _columns(table: list[list[str]]) -> dict[str, int]:
    """Name → place of the columns of a table that `Run.table` made; empty for any other table."""
    if len(table) > 1 and "what" in table[0] and table[1][0] == "id":
        return {name: i for i, name in enumerate(table[0]) if name}
    return {}


def _faults_of_table(table: list[list[str]], shown: Shown) -> Iterator[str]:
    columns = _columns(table)
    for row in table[2:] if columns else ():
        if set(row) <= {"...", "…"}:
            continue  # pandas leaves out the middle of a long table
        if (record := shown.records.get(row[0])) is None:
            yield f"shows {row[0]}, which is no record of this run"
            continue
        expected = {
            "what": record.title,
            "value": show_value(record),
            "95 % interval": show_interval(record),
            "n": str(record.n),
            "status": "not measured" if record.raw is None else "measured" if record.valid else "invalid",
        }
        for name, place in columns.items():
            if name in expected and not _reads(row[place] if place < len(row) else "", expected[name]):
                yield f"shows {name} {row[place : place + 1]} of {record.id}, the record says {expected[name]!r}"


def _reads(cell: str, expected: str) -> bool:
    """pandas cuts long texts short with three dots."""
    expected = " ".join(expected.split())
    return cell == expected or (len(cell) > 40 and cell.endswith("...") and expected.startswith(cell[:-3].rstrip()))


class _Tables(HTMLParser):
    """The tables of an HTML fragment, as lists of rows of cells' texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._inside = False

    @classmethod
    def of(cls, fragment: str) -> list[list[list[str]]]:
        parser = cls()
        parser.feed(fragment)
        parser.close()
        return [[[" ".join(cell.split()) for cell in row] for row in table if row] for table in parser.tables]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th") and self.tables and self.tables[-1]:
            self.tables[-1][-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr", "table"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.tables[-1][-1][-1] += data
'''

# -------------------- bankllm.evidence.run_checks --------------------
SOURCES['run_checks'] = r'''"""Check a whole run: its records, the seal of its manifest, every file that it lists and none that it does not.

Standard library alone: `bankllm verify` and every run's own `verify.py` are this code.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bankllm_check.errors import RunError
from bankllm_check.checks import Claimed, Finding, Verdict, broken, check_records, newer, read_claimed, read_text
from bankllm_check.conform import fault, parse_json
from bankllm_check.page_checks import check_pages
from bankllm_check.recompute import sha256_file
from bankllm_check.rows import inside

MANIFEST = "manifest.json"
VERIFIER = "verify.py"
UNSEALED = "0" * 64
"""What stands in the seal's place while the seal is taken."""
DATA_KEYS = ("train_rows", "test_rows", "intents", "train_sha256", "test_sha256")


def check_run(folder: Path, schemas: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Every finding of a run that says to be finished. Raises `RunError` where there is no manifest."""
    if not (folder / MANIFEST).is_file():
        raise RunError(f"{folder} is not a run: {MANIFEST} is missing. Expected outputs/<run-id>; see outputs/LATEST.")
    records, findings = read_claimed(folder, schemas["record"])
    try:
        findings += check_records(folder, records)
    except RunError as error:
        findings.append(broken("raw", str(error)))
    manifest, faults = _read_manifest(folder, schemas["manifest"])
    findings += [broken(MANIFEST, problem) for problem in faults]
    present, strange = _present(folder)
    findings += strange
    findings += check_pages(folder, sorted(present), records)
    if manifest is None:
        return Verdict(tuple(findings))
    if not manifest["files"]:
        findings.append(broken(MANIFEST, "the run did not finish; resume it"))
        return Verdict(tuple(findings))
    findings += [broken(MANIFEST, problem) for problem in _disagreements(manifest, records)]
    findings += _check_files(folder, manifest["files"], present)
    return Verdict(tuple(findings))


def seal_of(content: bytes, seal: str) -> str:
    """The seal of a manifest's bytes, which carry `seal`: sha256 with zeros in its place."""
    head, _, tail = content.rpartition(seal.encode())
    return hashlib.sha256(head + UNSEALED.encode() + tail).hexdigest()


def data_of(records: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Every data set that the records name, with its row counts and sha256 (`Dataset.conditions`)."""
    return {
        record.conditions["dataset"]: {key: record.conditions[key] for key in DATA_KEYS if key in record.conditions}
        for record in records
        if "dataset" in record.conditions
    }


def models_of(records: Sequence[Any]) -> dict[str, str | None]:
    """Every base model that the records name, with the sha256 of its weights."""
    conditions = [record.conditions for record in records if "model" in record.conditions]
    return {mine["model"]: mine.get("model_sha256") for mine in conditions}


def lines(verdict: Verdict) -> Iterator[str]:
    """One line a finding, and the verdict."""
    width = max((len(finding.subject) for finding in verdict.findings), default=0)
    for finding in verdict.findings:
        yield f"{finding.status:<13}  {finding.subject:<{width}}  {finding.detail}"
    yield verdict.summary()


def as_json(verdict: Verdict) -> str:
    """The verdict for other programs."""
    findings = [vars(finding) for finding in verdict.findings]
    return json.dumps({"holds": verdict.holds, "findings": findings}, indent=2)


def main(folder: Path, schemas: Mapping[str, Mapping[str, Any]], arguments: Sequence[str]) -> int:
    """What `python3 RUN_DIR/verify.py [--json]` does; returns the exit code."""
    if set(arguments) - {"--json"}:
        print("usage: python3 RUN_DIR/verify.py [--json]", file=sys.stderr)
        return 2
    try:
        verdict = check_run(folder, schemas)
    except RunError as error:
        print(error, file=sys.stderr)
        return 1
    print(as_json(verdict) if arguments else "\n".join(lines(verdict)))
    return 0 if verdict.holds else 1


def _read_manifest(folder: Path, schema: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The manifest, None where it cannot be used, and what is wrong with it."""
    try:
        text = read_text(folder, MANIFEST)
        document = parse_json(text)
        problem = newer(document) or fault(document, schema)
    except (RunError, ValueError, RecursionError) as error:
        return None, [f"cannot be read ({error})"]
    if problem:
        return None, [problem]
    seal = document.get("seal")
    if document.get("files") and (not seal or seal_of(text.encode("utf-8"), seal) != seal):
        return document, ["was edited after the run was sealed: the seal is not that of its content"]
    return document | {"files": document.get("files", {})}, []


def _disagreements(manifest: Mapping[str, Any], records: Sequence[Claimed]) -> Iterator[str]:
    """Where the manifest says something else than the records."""
    for name, said, found in (
        ("data", manifest.get("data", {}), data_of(records)),
        ("models", manifest.get("models", {}), models_of(records)),
    ):
        if said != found:
            differing = sorted(key for key in {*said, *found} if said.get(key) != found.get(key))
            yield f"{name}: {', '.join(differing)} is not what the records say"
    profiles = {str(record.conditions.get("profile")) for record in records} - {manifest["profile"]}
    if profiles:
        yield f"says profile {manifest['profile']}, the records {', '.join(sorted(profiles))}"
    undone = [entry["name"] for entry in manifest.get("notebooks", ()) if entry["status"] != "done"]
    if manifest.get("complete") and (undone or not manifest.get("finished")):
        yield f"says that the run is complete, but not that of {', '.join(undone) or 'its end'}"
    for entry in manifest.get("notebooks", ()):
        name = f"notebooks/{entry['name']}.ipynb"
        if entry["status"] == "done" and name not in manifest["files"]:
            yield f"says that {entry['name']} was executed, but does not list {name}"


def _present(folder: Path) -> tuple[set[str], list[Finding]]:
    """The files of the folder but the manifest, and a finding for each thing that is no plain file or folder."""
    names, strange = set(), []
    for place, folders, files in os.walk(folder):
        for entry in (*folders, *files):
            path = Path(place, entry)
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                strange.append(broken(name, "is a link; a run consists of files that can be copied"))
            elif path.is_file():
                names.add(name)
            elif not path.is_dir():
                strange.append(broken(name, "is neither a file nor a folder"))
    return names - {MANIFEST}, sorted(strange, key=lambda finding: finding.subject)


def _check_files(folder: Path, listed: Mapping[str, str], present: set[str]) -> Iterator[Finding]:
    """A finding for each file that is not what the manifest says, or that it does not list."""
    for name, expected in sorted(listed.items()):
        if (problem := file_fault(folder, name, expected, "the manifest lists it")) is not None:
            yield broken(name, problem)
    for name in sorted(present - set(listed)):
        yield broken(name, "lies in the run's folder, but the manifest does not list it")


def file_fault(folder: Path, name: str, expected: str, why: str) -> str | None:
    """What is wrong with a file whose sha256 is known; None where nothing is."""
    try:
        path = inside(folder, name)
        if not path.is_file():
            return f"{why}, but it is missing"
        found = sha256_file(path)
    except (RunError, OSError) as error:
        return f"{why}, but: {error}"
    return None if found == expected else f"expected sha256 {expected[:12]}…, found {found[:12]}…"
'''

SCHEMAS = json.loads(r'''
{
 "record": {
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "$defs": {
   "Raw": {
    "additionalProperties": false,
    "description": "The rows behind a record: a CSV file of the run, plain or gzip, and which of its rows count.",
    "properties": {
     "path": {
      "title": "Path",
      "type": "string"
     },
     "sha256": {
      "title": "Sha256",
      "type": "string"
     },
     "where": {
      "additionalProperties": {
       "type": "string"
      },
      "default": {},
      "title": "Where",
      "type": "object"
     }
    },
    "required": [
     "path",
     "sha256"
    ],
    "title": "Raw",
    "type": "object"
   }
  },
  "additionalProperties": false,
  "description": "One measured (or not measured) number. See the contract in DESIGN: every field stands in `records.jsonl`.",
  "properties": {
   "schema_version": {
    "const": 1,
    "default": 1,
    "title": "Schema Version",
    "type": "integer"
   },
   "id": {
    "title": "Id",
    "type": "string"
   },
   "title": {
    "title": "Title",
    "type": "string"
   },
   "notebook": {
    "title": "Notebook",
    "type": "string"
   },
   "value": {
    "anyOf": [
     {
      "type": "number"
     },
     {
      "type": "null"
     }
    ],
    "title": "Value"
   },
   "unit": {
    "title": "Unit",
    "type": "string"
   },
   "n": {
    "minimum": 0,
    "title": "N",
    "type": "integer"
   },
   "ci95": {
    "anyOf": [
     {
      "maxItems": 2,
      "minItems": 2,
      "prefixItems": [
       {
        "type": "number"
       },
       {
        "type": "number"
       }
      ],
      "type": "array"
     },
     {
      "type": "null"
     }
    ],
    "title": "Ci95"
   },
   "why_no_ci95": {
    "anyOf": [
     {
      "type": "string"
     },
     {
      "type": "null"
     }
    ],
    "title": "Why No Ci95"
   },
   "statistic": {
    "anyOf": [
     {
      "type": "string"
     },
     {
      "type": "null"
     }
    ],
    "title": "Statistic"
   },
   "parameters": {
    "additionalProperties": true,
    "title": "Parameters",
    "type": "object"
   },
   "raw": {
    "anyOf": [
     {
      "$ref": "#/$defs/Raw"
     },
     {
      "type": "null"
     }
    ]
   },
   "conditions": {
    "additionalProperties": true,
    "title": "Conditions",
    "type": "object"
   },
   "valid": {
    "title": "Valid",
    "type": "boolean"
   },
   "invalid_because": {
    "anyOf": [
     {
      "type": "string"
     },
     {
      "type": "null"
     }
    ],
    "title": "Invalid Because"
   }
  },
  "required": [
   "id",
   "title",
   "notebook",
   "value",
   "unit",
   "n",
   "ci95",
   "why_no_ci95",
   "statistic",
   "parameters",
   "raw",
   "conditions",
   "valid",
   "invalid_because"
  ],
  "title": "Record",
  "type": "object"
 },
 "manifest": {
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "$defs": {
   "NotebookRun": {
    "additionalProperties": false,
    "description": "What became of one notebook.",
    "properties": {
     "name": {
      "title": "Name",
      "type": "string"
     },
     "status": {
      "enum": [
       "done",
       "failed",
       "skipped"
      ],
      "title": "Status",
      "type": "string"
     },
     "seconds": {
      "title": "Seconds",
      "type": "number"
     },
     "error": {
      "anyOf": [
       {
        "type": "string"
       },
       {
        "type": "null"
       }
      ],
      "default": null,
      "title": "Error"
     }
    },
    "required": [
     "name",
     "status",
     "seconds"
    ],
    "title": "NotebookRun",
    "type": "object"
   }
  },
  "additionalProperties": false,
  "description": "See the contract in DESIGN: a run that a reader can place in time, on a machine, at a commit.",
  "properties": {
   "schema_version": {
    "const": 1,
    "default": 1,
    "title": "Schema Version",
    "type": "integer"
   },
   "run_id": {
    "title": "Run Id",
    "type": "string"
   },
   "profile": {
    "title": "Profile",
    "type": "string"
   },
   "command": {
    "title": "Command",
    "type": "string"
   },
   "started": {
    "format": "date-time",
    "title": "Started",
    "type": "string"
   },
   "finished": {
    "anyOf": [
     {
      "format": "date-time",
      "type": "string"
     },
     {
      "type": "null"
     }
    ],
    "default": null,
    "title": "Finished"
   },
   "complete": {
    "default": false,
    "title": "Complete",
    "type": "boolean"
   },
   "git_commit": {
    "anyOf": [
     {
      "type": "string"
     },
     {
      "type": "null"
     }
    ],
    "title": "Git Commit"
   },
   "git_dirty": {
    "anyOf": [
     {
      "type": "boolean"
     },
     {
      "type": "null"
     }
    ],
    "title": "Git Dirty"
   },
   "environment": {
    "additionalProperties": true,
    "title": "Environment",
    "type": "object"
   },
   "data": {
    "additionalProperties": {
     "additionalProperties": true,
     "type": "object"
    },
    "default": {},
    "title": "Data",
    "type": "object"
   },
   "models": {
    "additionalProperties": {
     "anyOf": [
      {
       "type": "string"
      },
      {
       "type": "null"
      }
     ]
    },
    "default": {},
    "title": "Models",
    "type": "object"
   },
   "notebooks": {
    "default": [],
    "items": {
     "$ref": "#/$defs/NotebookRun"
    },
    "title": "Notebooks",
    "type": "array"
   },
   "files": {
    "additionalProperties": {
     "type": "string"
    },
    "default": {},
    "title": "Files",
    "type": "object"
   },
   "left_out": {
    "additionalProperties": {
     "type": "string"
    },
    "default": {},
    "title": "Left Out",
    "type": "object"
   },
   "seal": {
    "anyOf": [
     {
      "type": "string"
     },
     {
      "type": "null"
     }
    ],
    "default": null,
    "title": "Seal"
   }
  },
  "required": [
   "run_id",
   "profile",
   "command",
   "started",
   "git_commit",
   "git_dirty",
   "environment"
  ],
  "title": "Manifest",
  "type": "object"
 }
}
''')


def load():
    """Make the modules above, in their order; returns the last one."""
    package = types.ModuleType("bankllm_check")
    package.__path__ = []
    sys.modules["bankllm_check"] = package
    for name, source in SOURCES.items():
        module = types.ModuleType(f"bankllm_check.{name}")
        sys.modules[module.__name__] = module
        setattr(package, name, module)
        exec(compile(source, f"verify.py: {name}", "exec"), module.__dict__)
    return module


run_checks = load()
if __name__ == "__main__":
    sys.exit(run_checks.main(Path(__file__).resolve().parent, SCHEMAS, sys.argv[1:]))
