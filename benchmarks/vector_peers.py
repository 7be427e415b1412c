"""Our vector store compared with FAISS, Chroma and LanceDB: the same real vectors, each in a separate process.

python benchmarks/vector_peers.py [--sizes real 100000] [--only ours faiss]

One thread searches for the top 10 in a closed loop. A durable insert survives SIGKILL, which is tested; libraries
without a log rewrite their file for each insert. A customer has about 200 rows; FAISS stores no names or texts and
receives the ids of a customer's rows as a filter.
"""

import argparse
import os
import platform
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import vector_data
from vector_contenders import CONTENDERS, INSTALL, Contender, insert_and_kill, run_phase
from vector_data import Sample, recall

from bankllm.errors import BankLLMError, UsageError

STORES = tuple(dict.fromkeys(contender.store for contender in CONTENDERS))
Row = dict[str, Any]
SEARCH = ("p50, ms", "p95, ms", "recall@10")
HEADINGS = (
    *("store", "load, rows/s", "durable insert p50, ms", "inserts/s"),
    *(f"all: {name}" for name in SEARCH),
    *(f"one customer: {name}" for name in SEARCH),
    *("disk, MiB", "memory, MiB", "lost by kill -9"),
)


def measure(contender: Contender, sample: Sample, folder: Path, options: argparse.Namespace) -> Row:
    """Measure one contender, whose files are written to an empty `folder`."""
    filled = run_phase(contender, "fill", sample, folder)
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    scope = ("--customers",) if contender.can_filter else ()
    found = run_phase(contender, "ask", sample, folder, "--count", str(options.queries), *scope)
    limits = ("--count", str(options.inserts), "--seconds", str(options.seconds))
    inserts, lost = insert_and_kill(contender, sample, folder, *limits)
    return {
        "load_rows_per_s": filled["rows"] / filled["seconds"],
        "disk_bytes": disk,
        "rss_bytes": found["rss_bytes"],
        "insert_ms": inserts,
        "lost": lost,
        **searches(found, sample),
    }


def searches(found: dict, sample: Sample) -> Row:
    """Return p50 and p95 in ms and the mean recall, for searches of all rows and of one customer's rows."""
    vectors, queries, row = sample.vectors, sample.queries, {}
    members = vector_data.customers(len(vectors))
    for kind in ("all", "customer"):
        if kind not in found:
            continue
        shares = []
        for number, (ids, _) in enumerate(found[kind]):
            rows = vectors
            if kind == "customer":
                own_rows = members[found["customer_names"][number]]
                if not np.isin(ids, own_rows).all():
                    raise UsageError(f"A search returned rows of other customers; expected only {len(own_rows)} rows.")
                rows, ids = vectors[own_rows], np.searchsorted(own_rows, ids).tolist()
            shares.append(recall(rows, queries[number], ids))
        p50, p95 = np.percentile([took for _, took in found[kind]], [50, 95])
        row[kind] = (p50, p95, float(np.mean(shares)))
    return row


def search_cells(found: tuple[float, float, float] | None) -> list[str]:
    return [f"{found[0]:.3f}", f"{found[1]:.3f}", f"{found[2]:.4f}"] if found else ["—"] * 3


def cells(contender: Contender, row: Row) -> list[str]:
    """Return the line of the table for a contender."""
    durable = "durable" if contender.keeps_log else "file rewritten"
    return [
        f"{contender.name}, {contender.version}",
        f"{row['load_rows_per_s']:,.0f}",
        f"{np.median(row['insert_ms']):.3f} ({durable})",
        f"{1000 / np.mean(row['insert_ms']):,.0f}",
        *search_cells(row.get("all")),
        *search_cells(row.get("customer")),
        f"{row['disk_bytes'] / 2**20:.1f}",
        f"{row['rss_bytes'] / 2**20:.0f}",
        f"{row['lost']} of {len(row['insert_ms'])}",
    ]


def sizes(text: str) -> int | None:
    """Parse a number of rows; None for `real`."""
    return None if text == "real" else int(text)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=sizes, default=[None, 100_000], help="numbers of rows, or real")
    parser.add_argument("--only", nargs="+", choices=STORES, default=STORES)
    parser.add_argument(
        "--queries", type=int, default=400, help=f"number of queries per kind, at most {vector_data.QUERIES}"
    )
    parser.add_argument("--inserts", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=10, help="time limit for the single inserts")
    parser.add_argument("--folder", help="folder of the stores; default: the system's temporary folder")
    options = parser.parse_args(arguments)
    if not 1 <= options.queries <= vector_data.QUERIES:
        parser.error(f"--queries: expected 1 to {vector_data.QUERIES}, found {options.queries}.")
    return options


def run_size(sample: Sample, options: argparse.Namespace) -> dict[str, Row]:
    """Measure all chosen contenders on the sample, print a Markdown table, and return name → row."""
    print(f"\n{sample.describe()}\n", flush=True)
    rows: dict[str, Row] = {}
    lines = [HEADINGS, ("---",) + ("---:",) * (len(HEADINGS) - 1)]
    for contender in CONTENDERS:
        if contender.store not in options.only:
            continue
        if contender.version is None:
            print(f"{contender.name} is left out: not installed; run: {INSTALL}", flush=True)
            continue
        with TemporaryDirectory(prefix="bankllm-vectors-", dir=options.folder) as name:
            rows[contender.name] = measure(contender, sample, Path(name), options)
        lines.append(cells(contender, rows[contender.name]))
    print("\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines), flush=True)
    return rows


def main() -> None:
    options = parse()
    print(f"{os.cpu_count()} cores, {platform.platform()}, SQLite {sqlite3.sqlite_version}", flush=True)
    try:
        for size in options.sizes:
            run_size(vector_data.prepare(size), options)
    except BankLLMError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
