"""Ask a real server 400 messages of callers, for a person to read beside what a good reply does.

    python benchmarks/callers.py rules|model [--set r|s] [--half odd|even] > replies.txt

The messages were written without sight of code or data (data/caller_messages.jsonl). The callers of set `r` did not see
the demo ledger either: they name their own dates, amounts, people and companies, and the twelve customers take turns.
Those of set `s` are one customer. Each message is asked in a conversation of its own; a scam that is told holds the
payments of its customer.
"""

import argparse
import json
import tempfile
from pathlib import Path

import held_out
import httpx

from bankllm.loadtest.server_process import ServerProcess

DATA = Path(__file__).parent / "data" / "caller_messages.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engine", choices=("rules", "model"))
    parser.add_argument("--set", choices=("r", "s"), help="only the messages of one author")
    parser.add_argument("--half", choices=("odd", "even"), help="only the messages with such a number")
    given = parser.parse_args()
    rows = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
    env = {"BANKLLM_TODAY": held_out.TODAY, "BANKLLM_UNDERSTANDING": given.engine, "BANKLLM_RATE_LIMIT": "off"}
    env |= {"BANKLLM_REPLY_TIMEOUT_S": str(held_out.NO_DEADLINE_S)}
    with (
        tempfile.TemporaryDirectory() as name,
        ServerProcess(store=Path(name) / "memory.sqlite", env=env) as server,
    ):
        for number, row in enumerate(rows):
            if given.set and row["id"][0] != given.set:
                continue
            if given.half and int(row["id"][1:]) % 2 != (given.half == "odd"):
                continue
            body = {"message": row["message"], "customer_id": row.get("customer", f"CUST{1 + number % 12:03}")}
            response = httpx.post(f"{server.url}/api/v1/chat", json=body, timeout=held_out.NO_DEADLINE_S)
            answer = response.raise_for_status().json()
            calls = [f"{call['tool']} {call['arguments']}" for call in answer["calls"]]
            print(f"{row['id']} [{row['group']}] {row['message']}\n  good: {row['good']}\n  reply: {answer['reply']}")
            print(f"  calls: {'; '.join(calls) or 'none'}, by {answer['understood_by']}\n", flush=True)


if __name__ == "__main__":
    main()
