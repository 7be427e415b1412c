"""Train the head that chooses tools, and measure the encoder with rules on TellerChat.

    python benchmarks/understanding.py --train         # 5-fold cross-validation, then the packaged head
    python benchmarks/understanding.py --articles      # the packaged vectors of the articles, and their recall
    python benchmarks/understanding.py                 # the test set
    python benchmarks/understanding.py --routing adapters/mine    # after `bankllm evaluate adapters/mine`

`--routing` compares the rules, the model and the service's choice between them on the outputs that the evaluation kept,
and shows what other thresholds of the model's confidence would give. The figures are those of
`bankllm.training.language_model.task_scores`, by which a language model is judged.
"""

import argparse
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from bankllm.assistant import articles
from bankllm.assistant.bank.tools import TOOL_NAMES, Call
from bankllm.assistant.linear_head import LinearHead
from bankllm.assistant.understanding import tool_head
from bankllm.assistant.understanding.rules import Rules
from bankllm.assistant.understanding.tool_head import ToolHead
from bankllm.datasets import article_questions, tellerchat
from bankllm.datasets.tellerchat import Understand
from bankllm.evidence.raw_files import read_table
from bankllm.evidence.statistics.statistic import STATISTICS
from bankllm.training.language_model import task_scores
from bankllm.vectors.embedder import Embedder

C = 30.0
"""scikit-learn's `C`, chosen by cross-validation among 3, 10, 30."""
DATA = tellerchat.FOLDER.parent
WORD = re.compile(r"[^\W_][\w'’&.*+-]*")


def words(texts: Iterable[str]) -> Counter[str]:
    """Word → number of texts with it."""
    return Counter(word for text in texts for word in {word.lower().rstrip(".'’-") for word in WORD.findall(text)})


def ordinary(examples: Sequence[Understand]) -> dict[str, int]:
    """Words of the messages, of the articles and of Teller77 that are no names → rank by frequency."""
    named: Counter[str] = Counter()
    plain: Counter[str] = Counter()
    for example in examples:
        names = [call[argument] for call in example.calls for argument in ("merchant", "to") if argument in call]
        named += words(names)
        text = "\n".join(example.messages)
        for name in names:
            text = text.replace(name, " ")
        plain += words(text.split("\n"))
    ranks = {
        word: rank for rank, (word, count) in enumerate(plain.most_common()) if count > 1 and count >= 2 * named[word]
    }
    other = words(
        re.split(
            r"[\n\"]",
            (DATA / "knowledge.json").read_text("utf-8") + (DATA / "teller77" / "train.csv").read_text("utf-8"),
        )
    )
    return ranks | {
        word: len(plain) for word, count in other.items() if count > 1 and not named[word] and word not in ranks
    }


def fit(examples: Sequence[Understand], features: np.ndarray) -> ToolHead:
    """Fit a softmax over the tools and "no tool"; an example of n tools counts 1/n for each."""
    labels = np.array(
        [[any(call["tool"] == tool for call in one.calls) for tool in TOOL_NAMES] + [not one.calls] for one in examples]
    )
    rows, classes = np.nonzero(labels)
    model = LogisticRegression(C=C, max_iter=200)
    model.fit(sparse.csr_matrix(features[rows]), classes, sample_weight=1 / labels.sum(axis=1)[rows])
    metadata = {"labels": json.dumps(TOOL_NAMES), "ordinary": json.dumps(ordinary(examples))}
    linear = LinearHead(
        model.coef_.astype(np.float16).astype(np.float32), model.intercept_.astype(np.float32), metadata
    )
    return ToolHead(linear, json.loads(metadata["ordinary"]))


def train(embedder: Embedder) -> None:
    """Print cross-validated results, then write the head of all examples with the hash of its data."""
    examples = tellerchat.load(Understand, "train")
    features = tool_head.features([one.messages for one in examples], embedder.encode)
    results = []
    for fitted, held_out in KFold(5, shuffle=True, random_state=0).split(features):
        head = fit([examples[row] for row in fitted], features[fitted])
        results += [
            (examples[row], Rules(head, embedder.encode, date.today()).propose(examples[row].messages))
            for row in held_out
        ]
    report("5-fold cross-validation", results)
    head = fit(examples, features)
    data = hashlib.sha256((tellerchat.FOLDER / "understand_train.jsonl").read_bytes()).hexdigest()
    origin = {"data_sha256": data, "encoder": embedder.model_id}
    replace(head.linear, metadata={**head.linear.metadata, **origin}).save(tool_head.HEAD)
    print(f"{tool_head.HEAD}: {tool_head.HEAD.stat().st_size:,} bytes")


def report(name: str, results: Sequence[tuple[Understand, Sequence[Call]]]) -> None:
    """Print the figures by which a language model is judged (`task_scores`), in all and by phenomenon."""
    rows = task_scores.understand_rows([example for example, _ in results], [json.dumps(calls) for _, calls in results])
    print(f"{name}, {len(rows)} examples:")
    for title, _, statistic, parameters in task_scores.UNDERSTAND.values():
        found = STATISTICS.get(statistic)(rows, **parameters)
        print(f"  {title:36}{found.value:.3f}  {found.ci95}")
    for phenomenon, some in groupby(sorted(task_scores.by_phenomenon(rows), key=_phenomenon), _phenomenon):
        right = [row["actual"] == row["predicted"] for row in some]
        print(f"  {phenomenon:36}{sum(right) / len(right):.3f}  of {len(right)}")


def _phenomenon(row: Mapping[str, object]) -> str:
    return str(row["phenomenon"])


def recall(embedder: Embedder) -> None:
    """Print the shares of the article questions that get a right article, a wrong one, and none."""
    search = articles.ArticleSearch(embedder)
    rows = article_questions.load()
    vectors = embedder.encode([row.question for row in rows])
    found = [search.best(search.scores(row.question, vector)) for row, vector in zip(rows, vectors, strict=True)]
    for name, wanted in (("with an article", True), ("without one", False)):
        some = [(row, hit) for row, hit in zip(rows, found, strict=True) if bool(row.articles) == wanted]
        right = sum(hit is not None and hit.article in row.articles for row, hit in some)
        print(f"{len(some)} questions {name}: {right} right, {sum(hit is None for _, hit in some)} without an answer")


THRESHOLDS = [number / 20 for number in range(20)]


def routing(adapter: Path) -> None:
    """Print the exactly right calls by threshold and by phenomenon."""
    names = ("understand_rules", "understand_free", "understand_routed")
    tables = [list(read_table(adapter / "raw" / f"{name}.csv.gz", name)) for name in names]
    rules_right, model_right, routed = (
        np.array([row["actual"] == row["predicted"] for row in rows]) for rows in tables
    )
    is_clear = np.array([row["reader"] == "rules" for row in tables[2]])
    trusted = np.array([row["valid"] == row["copies"] == "yes" for row in tables[1]])
    confidence = np.array([float(row["confidence"]) for row in tables[1]])

    def chosen(threshold: float) -> np.ndarray:
        return np.where(~is_clear & trusted & (confidence >= threshold), model_right, rules_right)

    print(f"read by rules only: {is_clear.mean():.3f}, of these right: {rules_right[is_clear].mean():.3f}")
    for threshold in THRESHOLDS:
        asked = (~is_clear & trusted & (confidence >= threshold)).mean()
        print(f"  threshold {threshold:.2f}: by the model {asked:.3f}, right {chosen(threshold).mean():.3f}")
    halves = [np.arange(len(is_clear)) % 2 == half for half in (0, 1)]
    found = np.concatenate(
        [chosen(max(THRESHOLDS, key=lambda one: chosen(one)[half].mean()))[~half] for half in halves]
    )
    print(f"threshold chosen on one half, measured on the other, both ways: {found.mean():.3f}")
    either = rules_right | model_right
    print(f"{'':30}{'n':>5}{'rules':>8}{'model':>8}{'routed':>8}{'either':>8}")
    phenomena = [row["phenomena"].split("|") for row in tables[0]]
    for name, count in [("all", len(phenomena)), *Counter(one for some in phenomena for one in some).most_common()]:
        rows = np.array([name == "all" or name in some for some in phenomena])
        shares = (f"{right[rows].mean():8.3f}" for right in (rules_right, model_right, routed, either))
        print(f"{name:30}{count:5}{''.join(shares)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--articles", action="store_true")
    parser.add_argument("--routing", type=Path, metavar="ADAPTER")
    arguments = parser.parse_args()
    if arguments.routing:
        return routing(arguments.routing)
    embedder = Embedder()
    if arguments.train:
        return train(embedder)
    if arguments.articles:
        articles.write(embedder)
        return recall(embedder)
    head = ToolHead.load()
    examples = tellerchat.load(Understand, "test")
    results, times = [], []
    for example in examples:
        embedder.clear_cache()
        began = time.perf_counter()
        results.append((example, Rules(head, embedder.encode, date.today()).propose(example.messages)))
        times.append(1000 * (time.perf_counter() - began))
    report("test set", results)
    print(f"  median {np.median(times):.1f} ms, 95 % {np.percentile(times, 95):.1f} ms a message")


if __name__ == "__main__":
    main()
