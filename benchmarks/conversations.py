"""Hold the conversations of `tests/conversations` with a real server, and grade them: pass^1 and pass^4.

    python benchmarks/conversations.py --engine rules --runs 4
    python benchmarks/conversations.py --engine model --runs 4 --rows conversations.csv
    python benchmarks/conversations.py --only two-toms card-lost

A dialogue passes if all of its turns and the final ledger are as expected. pass^1 is the share of dialogues that pass,
over all runs; pass^k the share that pass in each of k runs. Every failed turn is printed: what was said, expected, got.
Each dialogue begins with a fresh copy of the ledger. The server checks tokens, so that the dialogues in which another
customer presses a button meet the rules of production.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from bankllm.evidence.records import write_rows
from bankllm.evidence.statistics.statistic import wilson
from bankllm.lab.conversation_bank import Dialogue, load
from bankllm.lab.conversations import Failure, desk
from bankllm.model.generation import PACKAGED


def show(dialogue: Dialogue, failures: Sequence[Failure]) -> None:
    print(f"\n{dialogue.theme}/{dialogue.id} ({dialogue.customer})")
    for failure in failures:
        print(f"  {failure.turn or 'end'}: {failure.said}")
        for fault in failure.faults:
            print(f"     {fault}")
        if failure.got:
            print(f"     got {failure.got}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=("rules", "model"), default="rules")
    parser.add_argument("--responder", default="template")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="dialogues whose id contains one of these")
    parser.add_argument("--every", type=int, default=1, help="only every n-th dialogue")
    parser.add_argument("--adapter", type=Path, default=PACKAGED, help="of the language model")
    parser.add_argument("--rows", type=Path, help="CSV file for one row per dialogue and run")
    parser.add_argument("--passing", type=Path, help="file for the ids that pass in all runs")
    given = parser.parse_args()
    chosen = [one for one in load() if not given.only or any(part in one.id for part in given.only)]
    chosen = chosen[:: given.every]
    if not chosen:
        parser.error("no dialogue has an id with one of these parts: " + ", ".join(given.only))
    passes: dict[str, list[bool]] = {dialogue.id: [] for dialogue in chosen}
    rows: list[dict[str, object]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, desk(Path(name), given.engine, given.responder, given.adapter) as held:
        for run in range(1, given.runs + 1):
            for dialogue in chosen:
                failures = held.hold(dialogue).failures
                passes[dialogue.id].append(not failures)
                rows.append(_row(dialogue, given.engine, run, not failures))
                if failures and all(passes[dialogue.id][:-1]):
                    show(dialogue, failures)
    rows += [_row(dialogue, given.engine, "all", all(passes[dialogue.id])) for dialogue in chosen]
    report(chosen, passes, given, time.monotonic() - began)
    if given.rows:
        write_rows(given.rows, rows)
    if given.passing:
        given.passing.write_text("".join(f"{one.id}\n" for one in chosen if all(passes[one.id])), encoding="utf-8")


def report(
    chosen: Sequence[Dialogue], passes: Mapping[str, list[bool]], given: argparse.Namespace, seconds: float
) -> None:
    every = Counter(one.theme for one in chosen)
    passed = Counter(one.theme for one in chosen if all(passes[one.id]))
    print(f"\n{'theme':20} passed in all of {given.runs} runs")
    for theme, count in every.items():
        print(f"{theme:20} {passed[theme]:3} of {count}")
    outcomes = [outcome for results in passes.values() for outcome in results]
    for k, hits, n in ((1, sum(outcomes), len(outcomes)), (given.runs, passed.total(), len(chosen))):
        estimate = wilson(hits, n)
        low, high = estimate.ci95 or (0.0, 1.0)
        print(f"pass^{k} {hits / n:.1%} ({hits} of {n}; 95 % interval {low:.1%} to {high:.1%})")
    print(
        f"{given.engine}, {given.responder}; {seconds:.0f} s on {os.cpu_count()} cores, Python {sys.version.split()[0]}"
    )


def _row(dialogue: Dialogue, engine: str, run: int | str, passed: bool) -> dict[str, object]:
    """`run` is a number, or `all` for the row that says whether the dialogue passed in every run."""
    outcome = "yes" if passed else "no"
    return {"dialogue": dialogue.id, "theme": dialogue.theme, "engine": engine, "run": run, "passed": outcome}


if __name__ == "__main__":
    main()
