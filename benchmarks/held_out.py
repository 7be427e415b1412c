"""Ask a real server questions about the demo ledger, and look for the right amounts in its answers.

    python benchmarks/held_out.py rules|model [--set h|k|l|m|n|p] [--half odd|even] [--rows held-out.csv] [--show]

1,210 questions were written without sight of code or data, with the right amounts by SQL on the ledger of 29 November
2026 (data/held_out_questions.jsonl). An answer is right if each required amount is in the reply or in the results of
the tools; an amount that is not required does no harm. `none`: nothing of the kind exists; `ask`: only asking back is
right. Of what is graded `wrong`, some answers show a part of what was asked, or another reading: read the rows.
"""

import argparse
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from bankllm.evidence.records import write_rows
from bankllm.evidence.statistics.statistic import wilson
from bankllm.loadtest.server_process import ServerProcess

DATA = Path(__file__).parent / "data" / "held_out_questions.jsonl"
TODAY = "2026-11-29"
NO_DEADLINE_S = 600
MONEY = re.compile(r"[£€$¥]\s?(\d[\d,]*(?:\.\d\d)?)")
NO_FIGURE = "so I give no figure"
"""Part of a question back."""
NOTHING = re.compile(r"\b(?:no|none|not any|nothing)\b", re.IGNORECASE)


def grade(question: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """Return `right`, `wrong`, `asked` or `other` for the JSON of a reply."""
    text, results = answer["reply"], [call["result"] for call in answer["calls"]]
    stated = {amount for amount in MONEY.findall(text) if float(amount.replace(",", ""))}
    if question["kind"] == "ask":
        return "wrong" if stated else "right"
    if question["kind"] == "none":
        if stated:
            return "wrong"
        return "right" if NOTHING.search(text) else "asked" if "?" in text else "other"
    shown = {abs(int(number)) for number in re.findall(r"-?\d+", json.dumps(results))}
    whole = 1 if question.get("currency") == "JPY" else 100

    def has(minor: int) -> bool:
        return minor in shown or f"{minor / whole:,.{0 if whole == 1 else 2}f}" in stated

    required, counts = question.get("amounts_minor", []), question.get("counts", [])
    counts = counts if all(isinstance(one, list) for one in counts) else [counts]
    counted = all(any(re.search(rf"\b{count}\b", text) for count in one) for one in counts)
    if counted and all(any(has(abs(minor)) for minor in one) for one in required):
        return "right"
    if stated or NOTHING.search(text.replace(NO_FIGURE, "")):
        return "wrong"
    return "asked" if "?" in text else "other"


def ask(questions: list[dict[str, Any]], engine: str, folder: Path) -> Iterator[dict[str, object]]:
    """Yield a row per question; each is asked in a conversation of its own, after its earlier messages."""
    env = {"BANKLLM_TODAY": TODAY, "BANKLLM_UNDERSTANDING": engine, "BANKLLM_RATE_LIMIT": "off"}
    env |= {"BANKLLM_REPLY_TIMEOUT_S": str(NO_DEADLINE_S)}
    with ServerProcess(store=folder / "memory.sqlite", env=env) as server:
        for question in questions:
            conversation: dict[str, str] = {}
            for message in [*question.get("earlier", []), question["message"]]:
                body = {"message": message, "customer_id": question["customer"], **conversation}
                response = httpx.post(f"{server.url}/api/v1/chat", json=body, timeout=NO_DEADLINE_S, trust_env=False)
                answer = response.raise_for_status().json()
                conversation = {"conversation_id": answer["conversation_id"]}
            about = {name: question[name] for name in ("id", "customer", "message", "kind")}
            yield {**about, "grade": grade(question, answer), "by": answer["understood_by"], "reply": answer["reply"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engine", choices=("rules", "model"))
    parser.add_argument("--set", choices=("h", "k", "l", "m", "n", "p"), help="only the questions of one author")
    parser.add_argument("--half", choices=("odd", "even"), help="only the questions with such a number")
    parser.add_argument("--rows", type=Path, help="CSV file for one row per question")
    parser.add_argument("--show", action="store_true", help="print each answer that is not right")
    given = parser.parse_args()
    questions = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]
    if given.set:
        questions = [one for one in questions if one["id"][0] == given.set]
    if given.half:
        questions = [one for one in questions if int(one["id"][1:]) % 2 == (given.half == "odd")]
    with tempfile.TemporaryDirectory() as name:
        rows = list(ask(questions, given.engine, Path(name)))
    for row in rows if given.show else ():
        if row["grade"] != "right":
            print(f"{row['grade']} {row['id']} {row['customer']}: {row['message']}\n    {row['reply']}")
    if given.rows:
        write_rows(given.rows, rows)
    for grade_, number in Counter(row["grade"] for row in rows).most_common():
        low, high = wilson(number, len(rows)).ci95 or (0.0, 1.0)
        print(f"{grade_:6} {number:4} of {len(rows)}  {number / len(rows):6.1%}  95 % interval {low:.1%} to {high:.1%}")


if __name__ == "__main__":
    main()
