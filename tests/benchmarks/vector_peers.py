"""Our vector store beside FAISS, usearch, Chroma and LanceDB: the same real vectors, one run, each in its own process.

python tests/benchmarks/vector_peers.py [--sizes real 100000] [--only ours faiss] [--json FILE]

One thread asks in a closed loop, for the top 10. A durable insert survives SIGKILL (which is tried) and a power loss
(its syncs are counted, with strace); libraries without a log write their file anew for it. Peers without names or
texts keep neither. A customer has about 200 rows; FAISS is told which. Not a table of what else the others can do.
"""

import argparse
import json
import os
import platform
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import vector_data
from vector_contenders import (
    CONTENDERS,
    INSTALL,
    Contender,
    bytes_on_disk,
    kill_after_inserts,
    run_phase,
    syncs_per_insert,
)
from vector_data import Sample, percentiles, recall

from bankllm.errors import BankLLMError, UsageError

QUIET_CORES = 0.1
"""What other programs may take of the machine before a row is called noisy."""
FLAT_FACTOR = 2
"""How much slower than FAISS's exact index a search over all may be."""
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
    "a customer: p50, ms",
    "p95, ms",
    "recall@10",
    "disk, MiB",
    "memory, MiB",
    "syncs an insert",
    "lost by kill -9",
)


def measure(contender: Contender, sample: Sample, folder: Path, options: argparse.Namespace) -> Row:
    """All figures of one contender, whose files go to an empty `folder`."""
    filled = run_phase(contender, "fill", sample, folder)
    disk = bytes_on_disk(folder)
    scope = ("--customers",) if contender.confines else ()
    asked = run_phase(contender, "ask", sample, folder, "--count", str(options.queries), *scope)
    limits = ("--count", str(options.inserts), "--seconds", str(options.seconds))
    inserts = run_phase(contender, "insert", sample, folder, *limits)
    row: Row = {
        "store": contender.name,
        "version": contender.version,
        "load_rows_per_s": filled["rows"] / filled["seconds"],
        "disk_bytes": disk,
        "rss_bytes": asked["rss_bytes"],
        "rss_before_bytes": asked["rss_before_bytes"],
        "inserts": len(inserts["insert"]),
        "insert": {**percentiles(inserts["insert"]), "per_s": 1000 / float(np.mean(inserts["insert"]))},
        "keeps_log": contender.keeps_log,
        "others_cores": max(phase["others_cores"] for phase in (filled, asked, inserts)),
        **searches(asked, sample),
    }
    kept = ("--seconds", str(options.seconds))
    row["acknowledged"], row["lost"] = kill_after_inserts(contender, sample, folder, options.killed, *kept)
    if not contender.keeps_log:
        unsaved = kill_after_inserts(contender, sample, folder, options.killed, *kept, "--unsaved")
        row["acknowledged_unsaved"], row["lost_unsaved"] = unsaved
    row["syncs_per_insert"] = syncs_per_insert(contender, sample, folder)
    return row


def searches(asked: dict, sample: Sample) -> Row:
    """Percentiles and recall of what the phase `ask` found."""
    vectors, queries = sample.vectors, sample.queries
    row: Row = {}
    if "all" in asked:
        shares = [recall(vectors, query, ids) for query, (ids, _) in zip(queries, asked["all"], strict=False)]
        row["all"] = {**percentiles([took for _, took in asked["all"]]), "recall": float(np.mean(shares))}
        row["first_ms"] = asked["first_ms"]
    if "customer" in asked:
        members = vector_data.customers(len(vectors))
        shares = []
        for query, name, (ids, _) in zip(queries, asked["customer_names"], asked["customer"], strict=False):
            own = members[name]
            if not np.isin(ids, own).all():
                raise UsageError(f"A search for {name} found rows of others; expected its own {len(own)} alone.")
            shares.append(recall(vectors[own], query, np.searchsorted(own, ids).tolist()))
        row["customer"] = {**percentiles([took for _, took in asked["customer"]]), "recall": float(np.mean(shares))}
        row["first_customer"] = percentiles(asked["first_customer_ms"])
    return row


def table(rows: Sequence[Row]) -> str:
    """Markdown, one line a contender."""
    lines = [HEADINGS, ("---",) + ("---:",) * (len(HEADINGS) - 1), *(_cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    if "not_measured" in row:
        return (f"{row['store']}: left out, not installed",) + ("—",) * (len(HEADINGS) - 1)
    insert = row["insert"]
    lost = f"{row['lost']} of {row['acknowledged']}"
    if not row["keeps_log"]:
        lost += f" (unsaved: {row['lost_unsaved']} of {row['acknowledged_unsaved']})"
    syncs = "—" if row["syncs_per_insert"] is None else f"{row['syncs_per_insert']:.1f}"
    return (
        f"{row['store']}, {row['version']}",
        f"{row['load_rows_per_s']:,.0f}",
        f"{insert['p50_ms']:.3f} ({_kind(row)})",
        f"{insert['per_s']:,.0f}",
        *_search_cells(row.get("all")),
        *_search_cells(row.get("customer")),
        f"{row['disk_bytes'] / 2**20:.1f}",
        f"{row['rss_bytes'] / 2**20:.0f}",
        syncs,
        lost,
    )


def _search_cells(found: Figures | None) -> tuple[str, ...]:
    if found is None:
        return ("—",) * 3
    return (f"{found['p50_ms']:.3f}", f"{found['p95_ms']:.3f}", f"{found['recall']:.4f}")


def judge(rows: Sequence[Row]) -> list[str]:
    """The targets, held or not held; those that lack a measured row are left out."""
    by_name = {row["store"]: row for row in rows if "not_measured" not in row}
    ours, whole, flat = (by_name.get(CONTENDERS[place].name) for place in range(3))
    verdicts = []
    for row in by_name.values() if ours else ():
        if row["store"].startswith("bankllm"):
            continue
        for part in ("customer", "insert"):
            if part in row:
                verdicts.append(_compare(f"{part}, beside {row['store']} ({_kind(row)})", ours[part], row[part], 1))
    if whole and flat:
        what = f"search over all, within {FLAT_FACTOR} x of {flat['store']}"
        verdicts.append(_compare(what, whole["all"], flat["all"], FLAT_FACTOR))
    return verdicts


def _kind(row: Row) -> str:
    if not row["keeps_log"]:
        return "file written anew"
    return "not synced" if row["syncs_per_insert"] == 0 else "durable"


def _compare(what: str, ours: Figures, theirs: Figures, factor: float) -> str:
    held = "held" if ours["p50_ms"] < factor * theirs["p50_ms"] else "NOT HELD"
    return f"{held}: {what}: {ours['p50_ms']:.3f} against {theirs['p50_ms']:.3f} ms (p50)"


def sizes(text: str) -> int | None:
    """Rows; None for `real`."""
    return None if text == "real" else int(text)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=sizes, default=[None, 100_000], help="rows, or real")
    parser.add_argument("--only", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--queries", type=int, default=400, help=f"of each kind, {vector_data.QUERIES} at most")
    parser.add_argument("--inserts", type=int, default=300)
    parser.add_argument("--killed", type=int, default=50, help="acknowledged inserts before kill -9")
    parser.add_argument("--seconds", type=float, default=10, help="most for the single inserts")
    parser.add_argument("--folder", help="where the stores lie; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the results as JSON lines")
    options = parser.parse_args(arguments)
    if not 1 <= options.queries <= vector_data.QUERIES:
        parser.error(f"--queries: expected 1 to {vector_data.QUERIES}, got {options.queries}.")
    return options


def run_size(sample: Sample, options: argparse.Namespace, keep: Callable[[Row], None]) -> None:
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
            others = rows[-1]["others_cores"]
            if others > QUIET_CORES:
                print(f"NOISY: others took {others:.2f} cores beside {contender.name}", flush=True)
        keep({"size": len(sample.vectors), "real": sample.real, **rows[-1]})
    print("\n" + table(rows) + "\n")
    print("\n".join(judge(rows)), flush=True)


def main() -> None:
    options = parse()
    label = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cores": os.cpu_count()}

    def keep(row: Row) -> None:
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**label, **row}) + "\n")

    strace = "" if shutil.which("strace") else "; strace is not installed: syncs are not counted"
    print(f"{os.cpu_count()} cores, {platform.platform()}, SQLite {sqlite3.sqlite_version}{strace}", flush=True)
    try:
        for size in options.sizes:
            run_size(vector_data.prepare(size), options, keep)
    except BankLLMError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
