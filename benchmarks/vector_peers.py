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

import numpy as np
import vector_data
from vector_contenders import CONTENDERS, INSTALL, Contender, bytes_on_disk, kill_after_inserts, run_phase
from vector_data import Sample, percentiles, recall

from bankllm.errors import BankLLMError, UsageError

STORES = tuple(dict.fromkeys(contender.store for contender in CONTENDERS))
Row = dict[str, object]
Figures = dict[str, float]
HEADINGS = (
    "store",
    "load, rows/s",
    "durable insert p50, ms",
    "inserts/s",
    "all: p50, ms",
    "p95, ms",
    "recall@10",
    "one customer: p50, ms",
    "p95, ms",
    "recall@10",
    "disk, MiB",
    "memory, MiB",
    "lost by kill -9",
)


def measure(contender: Contender, sample: Sample, folder: Path, options: argparse.Namespace) -> Row:
    """Measure one contender, whose files are written to an empty `folder`."""
    fill_result = run_phase(contender, "fill", sample, folder)
    disk = bytes_on_disk(folder)
    scope = ("--customers",) if contender.can_filter else ()
    search_result = run_phase(contender, "ask", sample, folder, "--count", str(options.queries), *scope)
    limits = ("--count", str(options.inserts), "--seconds", str(options.seconds))
    inserts = run_phase(contender, "insert", sample, folder, *limits)
    row: Row = {
        "store": contender.name,
        "version": contender.version,
        "load_rows_per_s": fill_result["rows"] / fill_result["seconds"],
        "disk_bytes": disk,
        "rss_bytes": search_result["rss_bytes"],
        "inserts": len(inserts["insert"]),
        "insert": {**percentiles(inserts["insert"]), "per_s": 1000 / float(np.mean(inserts["insert"]))},
        "keeps_log": contender.keeps_log,
        **searches(search_result, sample),
    }
    kept = ("--seconds", str(options.seconds))
    row["acknowledged"], row["lost"] = kill_after_inserts(contender, sample, folder, options.killed, *kept)
    return row


def searches(search_result: dict, sample: Sample) -> Row:
    """Return percentiles and recall of the results of the phase `ask`."""
    vectors, queries = sample.vectors, sample.queries
    row: Row = {}
    if "all" in search_result:
        shares = [recall(vectors, query, ids) for query, (ids, _) in zip(queries, search_result["all"], strict=False)]
        row["all"] = {**percentiles([took for _, took in search_result["all"]]), "recall": float(np.mean(shares))}
    if "customer" in search_result:
        members = vector_data.customers(len(vectors))
        shares = []
        found = zip(queries, search_result["customer_names"], search_result["customer"], strict=False)
        for query, name, (ids, _) in found:
            own_rows = members[name]
            if not np.isin(ids, own_rows).all():
                raise UsageError(f"A search for {name} returned other rows; expected only its own {len(own_rows)}.")
            shares.append(recall(vectors[own_rows], query, np.searchsorted(own_rows, ids).tolist()))
        row["customer"] = {
            **percentiles([took for _, took in search_result["customer"]]),
            "recall": float(np.mean(shares)),
        }
    return row


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table with one line per contender."""
    lines = [HEADINGS, ("---",) + ("---:",) * (len(HEADINGS) - 1), *(_cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    if "not_measured" in row:
        return (f"{row['store']}: left out, not installed",) + ("—",) * (len(HEADINGS) - 1)
    insert = row["insert"]
    return (
        f"{row['store']}, {row['version']}",
        f"{row['load_rows_per_s']:,.0f}",
        f"{insert['p50_ms']:.3f} ({'durable' if row['keeps_log'] else 'file rewritten'})",
        f"{insert['per_s']:,.0f}",
        *_search_cells(row.get("all")),
        *_search_cells(row.get("customer")),
        f"{row['disk_bytes'] / 2**20:.1f}",
        f"{row['rss_bytes'] / 2**20:.0f}",
        f"{row['lost']} of {row['acknowledged']}",
    )


def _search_cells(found: Figures | None) -> tuple[str, ...]:
    if found is None:
        return ("—",) * 3
    return (f"{found['p50_ms']:.3f}", f"{found['p95_ms']:.3f}", f"{found['recall']:.4f}")


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
    parser.add_argument("--killed", type=int, default=50, help="acknowledged inserts before kill -9")
    parser.add_argument("--seconds", type=float, default=10, help="time limit for the single inserts")
    parser.add_argument("--folder", help="folder of the stores; default: the system's temporary folder")
    options = parser.parse_args(arguments)
    if not 1 <= options.queries <= vector_data.QUERIES:
        parser.error(f"--queries: expected 1 to {vector_data.QUERIES}, found {options.queries}.")
    return options


def run_size(sample: Sample, options: argparse.Namespace) -> list[Row]:
    """Measure all chosen contenders on the sample, and print and return their rows."""
    print(f"\n{sample.describe()}\n", flush=True)
    rows: list[Row] = []
    for contender in CONTENDERS:
        if contender.store not in options.only:
            continue
        if contender.version is None:
            rows.append({"store": contender.name, "not_measured": f"not installed; run: {INSTALL}"})
            print(f"{contender.name} is left out: {rows[-1]['not_measured']}", flush=True)
        else:
            with TemporaryDirectory(prefix="bankllm-vectors-", dir=options.folder) as folder:
                Path(folder, "store").mkdir()
                rows.append(measure(contender, sample, Path(folder, "store"), options))
    print("\n" + table(rows), flush=True)
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
