"""At which size an approximate index begins to beat our exact search over all, and what it costs: recall, time, memory.

python tests/benchmarks/vector_ann.py [--sizes 1000 5000 15000 100000] [--json FILE]

Graphs of equal size (M 16, efConstruction 128, efSearch 64), built and asked by one thread, each in its own process.
Ours returns texts and metadata read from the file; the indexes return row numbers. Customers have hundreds of rows.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import vector_data
from vector_contenders import CONTENDERS, FAISS_HNSW, INSTALL, Contender, run_phase
from vector_data import Sample
from vector_peers import QUIET_CORES, Row, searches

from bankllm.errors import BankLLMError

OURS = CONTENDERS[1]
EXACT = (OURS, CONTENDERS[2])
APPROXIMATE = (CONTENDERS[4], FAISS_HNSW)


def measure(contender: Contender, sample: Sample, folder: Path, queries: int) -> Row:
    """Build once, ask `queries` times."""
    filled = run_phase(contender, "fill", sample, folder)
    asked = run_phase(contender, "ask", sample, folder, "--count", str(queries))
    return {
        "store": contender.name,
        "version": contender.version,
        "size": len(sample.vectors),
        "real": sample.real,
        "build_s": filled["seconds"],
        "rss_bytes": asked["rss_bytes"],
        "rss_before_bytes": asked["rss_before_bytes"],
        "others_cores": max(filled["others_cores"], asked["others_cores"]),
        **searches(asked, sample),
    }


def beaten_from(rows: Sequence[Row], name: str) -> int | None:
    """The smallest size from which on `name` answers sooner than ours at every larger one; None where it never does."""
    p50 = {(row["store"], row["size"]): row["all"]["p50_ms"] for row in rows}
    found = None
    for size in sorted({size for store, size in p50 if store == name}, reverse=True):
        if p50[name, size] >= p50[OURS.name, size]:
            break
        found = size
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1000, 5000, 15_000, 100_000])
    parser.add_argument("--queries", type=int, default=400, help=f"{vector_data.QUERIES} at most")
    parser.add_argument("--folder", help="where the indexes lie; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the results as JSON lines")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for size in options.sizes:
        sample = vector_data.prepare(size)
        print(f"\n{sample.describe()}\n")
        print(
            f"{'':<24} {'build, s':>9} {'p50, ms':>9} {'p95, ms':>9} {'recall@10':>9} {'memory, MiB':>11}", flush=True
        )
        for contender in (*EXACT, *APPROXIMATE):
            if contender.version is None:
                print(f"{contender.name:<24} left out: not installed; run: {INSTALL}", flush=True)
                continue
            with TemporaryDirectory(prefix="bankllm-ann-", dir=options.folder) as folder:
                row = measure(contender, sample, Path(folder), options.queries)
            rows.append(row)
            found, mib = row["all"], row["rss_bytes"] / 2**20
            noisy = f"  NOISY: others took {row['others_cores']:.2f} cores" * (row["others_cores"] > QUIET_CORES)
            print(
                f"{contender.name:<24} {row['build_s']:9.2f} {found['p50_ms']:9.3f} {found['p95_ms']:9.3f} "
                f"{found['recall']:9.4f} {mib:11.0f}{noisy}",
                flush=True,
            )
            if options.json:
                with options.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    return rows


def main() -> None:
    options = parse()
    print(f"{os.cpu_count()} cores, {platform.platform()}")
    try:
        rows = run(options)
    except BankLLMError as error:
        sys.exit(f"Error: {error}")
    for name in dict.fromkeys(row["store"] for row in rows if row["store"] != OURS.name):
        size = beaten_from(rows, name)
        print(f"{name} is faster than ours " + (f"from {size:,} rows on" if size else "at none of these sizes"))


if __name__ == "__main__":
    main()
