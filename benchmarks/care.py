"""Train and measure the detection of customers in distress, and of messages in other languages.

    python benchmarks/care.py --train    # 5-fold cross-validation, then the packaged head
    python benchmarks/care.py            # messages that were written without sight of the training data

Ordinary messages for training are also those of Teller77 and TellerChat, and the ways of asking for articles.
"""

import argparse
import csv
import hashlib
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.care import detection
from bankllm.assistant.care.languages import language_reply, lines
from bankllm.assistant.linear_head import LinearHead
from bankllm.assistant.understanding.tool_head import ToolHead
from bankllm.datasets import tellerchat
from bankllm.evidence.statistics.statistic import wilson
from bankllm.vectors.embedder import Embedder

Found = tuple[str, str, float]
"""Labelled kind, likeliest kind and probability of distress."""
DATA = Path(__file__).parent / "data"
TRAIN = DATA / "care_train.jsonl"
TELLS = re.compile(
    "abuse|scam|fraud|bereave|hardship|arrears|gambl|missed|debt|power_of|support_note|mule|compromised|breathing"
    "|frozen_review|account_leave|sim_swap|suspicious|recogni[sz]ed|wrong_account|mandate|held_check|overdraft|complaint"
    "|remote|holiday|human_agent|goodbye|moving_abroad"
)
"""Parts of the ids of articles that customers in distress may also ask for."""
C, WEIGHT = 10.0, 3.0
"""scikit-learn's `C`, and the weight of `TRAIN`'s messages over those of Teller77 and TellerChat: chosen by
cross-validation among 10, 30, 100 and 1, 3, 6."""


def read(name: str) -> list[tuple[str, str]]:
    """Return (message, kind) of a file; a message without a kind is ordinary.

    Messages of the kind `contested` are left out: their author meant them as questions to an article, but they tell of
    a death, a scam under way, abuse or unpaid bills.
    """
    rows = [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]
    return [(row["text"], row.get("kind", "ordinary")) for row in rows if row.get("kind") != "contested"]


def other_ordinary(split: str) -> list[tuple[str, str]]:
    """Messages of Teller77, TellerChat and articles, without those that the training file names."""
    with (tellerchat.FOLDER.parent / "teller77" / f"{split}.csv").open(encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    texts += [example.messages[-1] for example in tellerchat.load(tellerchat.Understand, split)]
    if split == "train":
        asked = [article for id_, article in load_knowledge().items() if not TELLS.search(id_)]
        texts += [text for article in asked for text in (*article.asked, *article.plain)]
    known = {text for text, _ in read(TRAIN.name)}
    return [(text, "ordinary") for text in texts if text not in known]


def features(messages: Sequence[tuple[str, str]], embedder: Embedder) -> np.ndarray:
    vectors = embedder.encode([text for text, _ in messages])
    return np.stack([detection.features(text, vector) for (text, _), vector in zip(messages, vectors, strict=True)])


def fit(rows: np.ndarray, kinds: Sequence[str], weights: np.ndarray, encoder: str) -> LinearHead:
    model = LogisticRegression(C=C, max_iter=300)
    model.fit(sparse.csr_matrix(rows), [detection.LABELS.index(kind) for kind in kinds], weights)
    data = hashlib.sha256(TRAIN.read_bytes()).hexdigest()
    metadata = {"labels": json.dumps(detection.LABELS), "encoder": encoder, "data_sha256": data}
    return LinearHead(model.coef_.astype(np.float32), model.intercept_.astype(np.float32), metadata)


def train(embedder: Embedder) -> None:
    """Print cross-validated shares, then write the head of all training messages."""
    messages, other = read(TRAIN.name), other_ordinary("train")
    weights = np.repeat([WEIGHT, 1.0], [len(messages), len(other)])
    messages += other
    rows, kinds = features(messages, embedder), [kind for _, kind in messages]
    found: list[Found] = []
    for fitted, held_out in StratifiedKFold(5, shuffle=True, random_state=0).split(rows, kinds):
        head = fit(rows[fitted], [kinds[row] for row in fitted], weights[fitted], embedder.model_id)
        for row in held_out:
            vector = rows[row, : embedder.dim]
            found.append((kinds[row], *detection.detect(messages[row][0], vector, head)))
    report("5-fold cross-validation", found)
    fit(rows, kinds, weights, embedder.model_id).save(detection.HEAD)
    detection.packaged_head.cache_clear()


def detected(messages: Sequence[tuple[str, str]], embedder: Embedder) -> list[Found]:
    vectors = embedder.encode([text for text, _ in messages])
    return [(kind, *detection.detect(text, vector)) for (text, kind), vector in zip(messages, vectors, strict=True)]


def report(name: str, found: Sequence[Found]) -> None:
    """Print recall and false alarms with Wilson's intervals, in all and by kind."""
    print(name)
    ordinary = [one for one in found if one[0] == "ordinary"]
    distress = [one for one in found if one[0] != "ordinary"]
    for title, some in (("recall", distress), ("false alarms", ordinary)):
        show(title, reaching(some, detection.THRESHOLD), len(some))
        show(f"{title}, or the offer", reaching(some, detection.POSSIBLE), len(some))
        show(f"{title}, ambiguous", reaching(some, detection.SURE), len(some))
    for kind in detection.KINDS:
        some = [one for one in found if one[0] == kind]
        show(f"  {kind}", reaching(some, detection.THRESHOLD), len(some))
    right = [one for one in distress if one[0] == one[1]]
    show("right kind of those", reaching(right, detection.THRESHOLD), reaching(distress, detection.THRESHOLD))


def reaching(found: Sequence[Found], threshold: float) -> int:
    return sum(probability >= threshold for *_, probability in found)


def show(title: str, hits: int, n: int) -> None:
    share = wilson(hits, n)
    print(f"  {title:26}{hits:5} of {n:5}  {share.value:.4f}  {share.ci95}")


def languages(english: Sequence[tuple[str, str]]) -> None:
    """Print how many messages get the line in their language, and how many English ones get one, with the time."""
    rows = [json.loads(line) for line in (DATA / "other_languages.jsonl").read_text("utf-8").splitlines()]
    ranks = ToolHead.load().ordinary
    replies = [language_reply(row["text"], ranks) for row in rows]
    right = sum(lines()[row["language"]] == reply for row, reply in zip(rows, replies, strict=True))
    print(f"other languages ({len({row['language'] for row in rows})})")
    show("line in that language", right, len(rows))
    show("line in a wrong language", sum(map(bool, replies)) - right, len(rows))
    began = time.perf_counter()
    show("English as another one", sum(bool(language_reply(text, ranks)) for text, _ in english), len(english))
    print(f"  {1000 * (time.perf_counter() - began) / len(english):.3f} ms a message")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true")
    arguments = parser.parse_args()
    embedder = Embedder()
    if arguments.train:
        return train(embedder)
    messages = read("care_messages.jsonl") + read("ordinary_messages.jsonl")
    found = detected(messages, embedder)
    report("all messages that were written without sight of the training data", found)
    report("every second one of them, by which no threshold was chosen", found[1::2])
    tests = detected(other_ordinary("test"), embedder)
    show("Teller77 and TellerChat", reaching(tests, detection.THRESHOLD), len(tests))
    languages([*messages, *other_ordinary("test"), *read(TRAIN.name), *other_ordinary("train")])


if __name__ == "__main__":
    main()
