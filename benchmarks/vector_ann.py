"""Size above which an approximate index is faster than our exact search, and its recall, build time and memory.

python benchmarks/vector_ann.py [--sizes 1000 5000 15000 100000] [--json FILE]

The graphs have equal parameters (M 16, efConstruction 128, efSearch 64) and use one thread, each in a separate process.
Our store returns texts and metadata read from the file; the indexes return only row numbers. For comparison, a customer
has hundreds of rows.
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
from vector_peers import MAX_OTHER_CORES, Row, searches

from bankllm.errors import BankLLMError

OURS = CONTENDERS[1]
EXACT = (OURS, CONTENDERS[2])
APPROXIMATE = (CONTENDERS[4], FAISS_HNSW)


def measure(contender: Contender, sample: Sample, folder: Path, queries: int) -> Row:
    """Build an index once and search it `queries` times."""
    fill_result = run_phase(contender, "fill", sample, folder)
    search_result = run_phase(contender, "ask", sample, folder, "--count", str(queries))
    return {
        "store": contender.name,
        "version": contender.version,
        "size": len(sample.vectors),
        "real": sample.real,
        "build_s": fill_result["seconds"],
        "rss_bytes": search_result["rss_bytes"],
        "rss_before_bytes": search_result["rss_before_bytes"],
        "others_cores": max(fill_result["others_cores"], search_result["others_cores"]),
        **searches(search_result, sample),
    }


def beaten_from(rows: Sequence[Row], name: str) -> int | None:
    """Return the smallest size from which `name` is faster than our store at every measured size; None if none."""
    p50 = {(row["store"], row["size"]): row["all"]["p50_ms"] for row in rows}
    smallest = None
    for size in sorted({size for store, size in p50 if store == name}, reverse=True):
        if p50[name, size] >= p50[OURS.name, size]:
            break
        smallest = size
    return smallest


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1000, 5000, 15_000, 100_000])
    parser.add_argument("--queries", type=int, default=400, help=f"number of queries, at most {vector_data.QUERIES}")
    parser.add_argument("--folder", help="folder of the indexes; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the results as JSON lines")
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
            search, mib = row["all"], row["rss_bytes"] / 2**20
            noisy = f"  NOISY: other programs used {row['others_cores']:.2f} cores" * (
                row["others_cores"] > MAX_OTHER_CORES
            )
            print(
                f"{contender.name:<24} {row['build_s']:9.2f} {search['p50_ms']:9.3f} {search['p95_ms']:9.3f} "
                f"{search['recall']:9.4f} {mib:11.0f}{noisy}",
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
        print(f"{name} is faster than our store " + (f"from {size:,} rows" if size else "at none of these sizes"))


if __name__ == "__main__":
    main()
