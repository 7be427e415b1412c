"""Measure how many real banking messages get the article of their topic.

    BANKLLM_BANKING77=path/to/banking77 python benchmarks/problems.py --number 500

The messages are from Banking77's test set. `articles.LEAD` was fitted to the first half of them in this order, so the
second half is measured.
"""

import argparse
import random
import tempfile
from collections import Counter
from pathlib import Path

from bankllm.assistant.engine import ChatEngine
from bankllm.datasets import load
from bankllm.evidence.statistics.statistic import wilson
from bankllm.settings import Settings

CUSTOMER = "CUST004"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=500, help="messages")
    parser.add_argument("--engine", choices=("rules", "model"), default="rules", help="who understands the messages")
    arguments = parser.parse_args()
    data = load("banking77")
    rows = list(zip(data.test.texts, data.test.labels, strict=True))
    random.Random(11).shuffle(rows)
    rows = rows[len(rows) // 2 :][: arguments.number]
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        engine = ChatEngine.load(Settings(store=Path(folder, "store.sqlite"), understanding=arguments.engine))
        for text, label in rows:
            reply = engine.chat(text, CUSTOMER)
            articles = [call.arguments.get("article") for call in reply.calls if call.tool == "knowledge"]
            tools = [call.tool for call in reply.calls]
            if data.label_names[label] in articles:
                outcomes["the article of the topic"] += 1
            elif articles:
                outcomes["another article"] += 1
            else:
                outcomes[tools[0] if tools else "a question" if reply.question else "a fixed reply or none"] += 1
        engine.close()
    for outcome, count in outcomes.most_common():
        low, high = wilson(count, len(rows)).ci95
        print(f"{outcome:28}{count / len(rows):7.1%}  ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
