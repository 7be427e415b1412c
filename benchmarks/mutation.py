"""Mutation score of the tests: the share of small changes to the package's code that make a test fail.

python benchmarks/mutation.py [--changes 200] [--only util/redaction.py ...]

Each change is applied to a copy of the package; the tests of its module run until one fails. The sample depends only on
the code. cosmic-ray and mutmut were considered: neither takes a sample with its own tests for each module, and
cosmic-ray edits the working tree. Exit code 1 if the score is below 90 %.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {
    "assistant/batcher.py": "assistant/test_batcher.py",
    "assistant/wording/grounding.py": "assistant/wording/test_grounding.py",
    "datasets/csv_folder.py": "datasets/test_csv_folder.py",
    "evidence/claim_syntax.py": "evidence/test_claim_syntax.py",
    "evidence/format.py": "evidence/report/test_render.py",
    "evidence/raw_files.py": "evidence/test_raw_files.py evidence/test_records.py evidence/verification/test_verify.py",
    "evidence/statistics/classification.py": "evidence/statistics/test_classification.py",
    "evidence/statistics/samples.py": "evidence/statistics/test_samples.py",
    "evidence/unbound_numbers.py": "evidence/test_unbound_numbers.py",
    "loadtest/load.py": "loadtest/test_load.py",
    "serving/auth.py": "serving/test_auth.py",
    "serving/limits.py": "serving/test_limits.py",
    "settings.py": "test_settings.py",
    "util/atomic_files.py": "util/test_atomic_files.py",
    "util/redaction.py": "util/test_redaction.py",
    "util/registry.py": "util/test_registry.py",
    "vectors/pinecone/outbox.py": "vectors/pinecone/test_outbox.py",
    "vectors/sqlite/store.py": "vectors/sqlite/test_store.py vectors/sqlite/test_store_search.py",
}
"""Module of the package → its test files: the modules that matter most, with quick tests."""
COMPARISONS = {
    **{ast.Lt: "<= >=", ast.LtE: "< >", ast.Gt: ">= <=", ast.GtE: "> <", ast.Eq: "!=", ast.NotEq: "=="},
    **{ast.In: "not_in", ast.NotIn: "in", ast.Is: "is_not", ast.IsNot: "is"},
}
ARITHMETIC = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*", ast.Pow: "*"}
SKIPPED = (ast.JoinedStr, ast.AnnAssign, ast.arg)
"""Nodes whose parts stay: Python 3.11 has no positions inside f-strings, and annotations do nothing."""


@dataclass(frozen=True)
class Change:
    """Bytes `start` to `stop` of a module become `after`."""

    module: str
    line: int
    start: int
    stop: int
    after: str

    def __str__(self) -> str:
        source = (ROOT / "bankllm" / self.module).read_bytes()
        begin, end = source.rfind(b"\n", 0, self.start) + 1, source.find(b"\n", self.start)
        before, after = source[self.start : self.stop].decode(), " ".join(self.after.split())
        return f"{self.module}:{self.line}: {source[begin:end].decode().strip()} | {' '.join(before.split())} → {after}"


def changes_of(module: str) -> list[Change]:
    """Every change that the operators make to the module."""
    source = (ROOT / "bankllm" / module).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node, after in replacements(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        stop = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        found.append(Change(module, node.lineno, start, stop, after))
    return found


def replacements(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Each statement or expression below a node that can be changed, and the source that replaces it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.AnnAssign) and child.value:
            yield from replacements(ast.Expr(child.value))
        if isinstance(child, ast.If):
            yield child.test, f"(not ({ast.unparse(child.test)}))"
        if not isinstance(child, SKIPPED):
            yield from replacements(child)
            yield from ((child, after) for after in variants(child))  # type: ignore[misc]


def variants(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Compare(left, [operator], [right]):
            for other in COMPARISONS[type(operator)].split():
                yield f"({ast.unparse(left)} {other.replace('_', ' ')} {ast.unparse(right)})"
        case ast.BinOp(left, operator, right) if type(operator) in ARITHMETIC:
            yield f"({ast.unparse(left)} {ARITHMETIC[type(operator)]} {ast.unparse(right)})"
        case ast.BoolOp(operator, values):
            yield "(" + (" or " if isinstance(operator, ast.And) else " and ").join(map(ast.unparse, values)) + ")"
        case ast.UnaryOp(ast.Not(), operand):
            yield f"({ast.unparse(operand)})"
        case ast.IfExp(test, body, orelse):
            yield f"({ast.unparse(orelse)} if {ast.unparse(test)} else {ast.unparse(body)})"
        case ast.Constant(bool() as value):
            yield str(not value)
        case ast.Constant(int() as value):
            yield from (str(value + 1), f"({value - 1})")
        case ast.Return(value) if value is not None and ast.unparse(value) != "None":
            yield "return None"
        case ast.Raise() | ast.AugAssign() | ast.Expr(ast.Call()) | ast.Delete():
            yield "pass"


def sample(modules: Sequence[str], count: int) -> list[Change]:
    """The same number of changes for each module, always the same ones."""
    chosen: list[Change] = []
    for position, module in enumerate(modules):
        share = (count - len(chosen)) // (len(modules) - position)
        chosen += random.Random(module).sample(changes_of(module), share)
    return chosen


def run_tests(copy: Path, module: str, limit_s: float) -> bool:
    """Whether the tests of the module pass in the copy within the time limit."""
    tests = [f"tests/{name}" for name in TARGETS[module].split()]
    options = ["-x", "-m", "not slow and not tamper and not install", "--hypothesis-seed=0"]
    options += ["-p", "no:cacheprovider", "-p", "no:nbval"]  # nbval takes a second to import
    command = [sys.executable, "-B", "-m", "pytest", *options, *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=TARGETS, metavar="MODULE", default=list(TARGETS))
    chosen = parser.parse_args()
    changes, copies = sample(chosen.only, chosen.changes), SimpleQueue[Path]()
    limits: dict[str, float] = {}

    def survives(change: Change) -> bool:
        copy = copies.get()
        path = copy / "bankllm" / change.module
        source = path.read_bytes()
        path.write_bytes(source[: change.start] + change.after.encode() + source[change.stop :])
        survived = run_tests(copy, change.module, limits[change.module])
        path.write_bytes(source)
        copies.put(copy)
        return survived

    with tempfile.TemporaryDirectory() as folder:
        ignored = shutil.ignore_patterns("__pycache__", ".*", "outputs", "build")
        for job in range(chosen.jobs):
            copies.put(Path(shutil.copytree(ROOT, Path(folder) / str(job), ignore=ignored)))
        for module in chosen.only:
            copy, started = copies.get(), time.monotonic()
            if not run_tests(copy, module, 300):
                sys.exit(f"The tests of {module} fail without a change. Mend tests/{TARGETS[module]} first.")
            limits[module] = 30 + 3 * (time.monotonic() - started)
            copies.put(copy)
        killed = 0
        with ThreadPoolExecutor(chosen.jobs) as pool:
            for change, survived in zip(changes, pool.map(survives, changes), strict=True):
                killed += not survived
                if survived:
                    print(f"survived: bankllm/{change}", flush=True)
    print(f"{killed} of {len(changes)} changes made a test fail: {killed / len(changes):.1%}")
    sys.exit(killed < 0.9 * len(changes))


if __name__ == "__main__":
    main()
