"""Measure the guard of wording on labelled replies to facts as the tools write them.

    python benchmarks/guard.py            # recall by kind of fault, and false alarms
    python benchmarks/guard.py --show     # also the replies that it judges wrongly

`data/guard_replies.jsonl` was written before the rules of `wording.assertions`, which were then tuned on
it and on TellerChat's training replies. TellerChat's test replies, which are all true, were not looked at.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from bankllm.assistant.wording.assertions import Claims
from bankllm.datasets import tellerchat
from bankllm.datasets.tellerchat import Word
from bankllm.evidence.statistics.statistic import wilson

REPLIES = Path(__file__).parent / "data" / "guard_replies.jsonl"


def show(title: str, found: Sequence[bool]) -> None:
    share = wilson(sum(found), len(found))
    print(f"  {title:42}{sum(found):4} of {len(found):4}  {share.value:.3f}  {share.ci95}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in REPLIES.read_text("utf-8").splitlines()]
    judged = [(row["label"], bool(Claims(row["facts"]).faults(row["reply"])), row["reply"]) for row in rows]
    print("faults found")
    for label in sorted({label for label, _, _ in judged} - {"true"}):
        show(label, [found for other, found, _ in judged if other == label])
    show("all faults", [found for label, found, _ in judged if label != "true"])
    print("false alarms")
    show("labelled replies", [found for label, found, _ in judged if label == "true"])
    for title, examples in (("train", tellerchat.load(Word, "train")), ("test", tellerchat.load(Word, "test"))):
        show(f"TellerChat, {title}", [bool(Claims(one.facts).faults(one.reply)) for one in examples])
    if arguments.show:
        print(*(f"{label}: {reply}" for label, found, reply in judged if found == (label == "true")), sep="\n")


if __name__ == "__main__":
    main()
