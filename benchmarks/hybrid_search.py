"""Quality of the ways to search (dense, lexical, hybrid) on labelled sets, with 95 % intervals and a paired test.

python benchmarks/hybrid_search.py [--sets teller77 banking77 articles notes documents] [--questions 500]

- teller77, banking77: test texts against training texts; the value is the share of the best ten with the same intent.
- articles: the knowledge articles, and ways in which customers ask for them; reciprocal rank of the article.
- notes: short messages with merchants, amounts and codes, and questions that name one of them; reciprocal rank of the
  first right one.
- documents: 20 training texts of one intent each, and requests of about 350 characters with questions of three intents;
  the value is the recall at 20 of the documents of these intents.

p is that of a paired permutation test of hybrid against the better of the two others.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from scipy import stats

from bankllm import datasets
from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.vectors.fusion import Mode
from bankllm.vectors.service import open_service

TOP_K = 20
SMALL_TALK = (
    "I am in a hurry.",
    "I am calling about several things today.",
    "I do not know my account number by heart.",
    "Please be patient with me.",
    "My name is Maria Lopez and I live in Leeds.",
    "I want all of it settled now.",
)
MERCHANTS = ("O'Brien", "D'Souza", "Nguyen", "Tesco", "Sainsbury's", "Aldi", "Boots", "Café Nero", "Nando's", "Müller")
NOTES = (
    "I paid {amount} to {merchant} yesterday",
    "please send {amount} to {merchant} with the reference {code}",
    "the payment of {amount} at {merchant} was declined",
    "error {code} when I bought something at {merchant}",
    "{merchant} charged me {amount} twice",
    "I want a refund from {merchant}, order {code}",
)


@dataclass
class Labelled:
    texts: list[str]
    questions: list[str]
    right: list[set[int]]
    """Positions of the right texts of each question."""
    value: Callable[[list[bool], int], float]
    """Value of a result: whether each match is right, and the number of right texts."""


def intents(name: str, generator: random.Random, count: int) -> Labelled:
    data = datasets.load(name)
    by_intent = defaultdict(set)
    for number, label in enumerate(data.train.labels):
        by_intent[label].add(number)
    chosen = generator.sample(range(len(data.test.texts)), min(count, len(data.test.texts)))
    questions, right = [data.test.texts[n] for n in chosen], [by_intent[data.test.labels[n]] for n in chosen]
    return Labelled(list(data.train.texts), questions, right, lambda hits, _: sum(hits[:10]) / 10)


def reciprocal_rank(hits: list[bool], _: int) -> float:
    return 1 / (1 + hits.index(True)) if True in hits else 0.0


def articles(generator: random.Random, count: int) -> Labelled:
    known = list(load_knowledge().values())
    asked = [(question, number) for number, article in enumerate(known) for question in article.asked]
    asked = generator.sample(asked, min(count, len(asked)))
    texts = [f"{article.title}\n{article.answer}" for article in known]
    return Labelled(texts, [question for question, _ in asked], [{number} for _, number in asked], reciprocal_rank)


def notes(generator: random.Random, count: int) -> Labelled:
    texts, facts = [], []
    for _ in range(1200):
        fact = {
            "merchant": generator.choice(MERCHANTS),
            "amount": f"£{generator.randint(1, 400)}.{generator.choice(['00', '50', '99'])}",
            "code": f"{generator.choice('ABCE')}{generator.choice('RTX')}-{generator.randint(100, 999)}",
        }
        note = generator.choice(NOTES)
        texts.append(note.format(**fact))
        facts.append({name: value for name, value in fact.items() if f"{{{name}}}" in note})
    asked = {"merchant": "what did I say about {}", "amount": "the payment of {}", "code": "what happened with {}?"}
    questions, right = [], []
    for _ in range(count):
        name, value = generator.choice(list(generator.choice(facts).items()))
        said = value.lower().replace("'", generator.choice(["", "'"])).replace("-", generator.choice(["", "-"]))
        questions.append(asked[name].format(said))
        right.append({number for number, fact in enumerate(facts) if fact.get(name) == value})
    return Labelled(texts, questions, right, reciprocal_rank)


def documents(generator: random.Random, count: int) -> Labelled:
    data = datasets.load("auto")
    by_intent, asked, texts, of_intent = defaultdict(list), defaultdict(list), [], defaultdict(set)
    for text, label in zip(data.train.texts, data.train.labels, strict=True):
        by_intent[label].append(text)
    for text, label in zip(data.test.texts, data.test.labels, strict=True):
        asked[label].append(text)
    for label, own in by_intent.items():
        generator.shuffle(own)
        for start in range(0, min(len(own) - 19, 80), 20):
            of_intent[label].add(len(texts))
            texts.append(" ".join(own[start : start + 20]))
    questions, right = [], []
    for _ in range(count):
        labels = generator.sample(sorted(of_intent), 3)
        parts = [*(generator.choice(asked[label]) for label in labels), *generator.sample(SMALL_TALK, 4)]
        generator.shuffle(parts)
        questions.append(" ".join(parts))
        right.append(set().union(*(of_intent[label] for label in labels)))
    return Labelled(texts, questions, right, lambda hits, total: sum(hits) / min(total, TOP_K))


def measure(name: str, labelled: Labelled) -> None:
    values: dict[str, np.ndarray] = {}
    with open_service() as service:
        collection = service.collection("texts")
        number_of = {id_: number for number, id_ in enumerate(collection.add(labelled.texts, progress=True))}
        for mode in get_args(Mode):
            found = [collection.search(question, TOP_K, mode=mode) for question in labelled.questions]
            values[mode] = np.array(
                [
                    labelled.value([number_of[match.id] in right for match in matches], len(right))
                    for matches, right in zip(found, labelled.right, strict=True)
                ]
            )
    print(f"{name}: {len(labelled.texts)} texts, {len(labelled.questions)} questions")
    for mode, value in values.items():
        interval = stats.bootstrap((value,), np.mean, n_resamples=2000, rng=0).confidence_interval
        print(f"  {mode:8} {value.mean():.4f}  [{interval.low:.4f}, {interval.high:.4f}]")
    better = max(("dense", "lexical"), key=lambda mode: values[mode].mean())
    differences = values["hybrid"] - values[better]
    test = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=5000, rng=0)
    p = test.pvalue if differences.any() else 1.0
    print(f"  hybrid - {better}: {differences.mean():+.4f}, p = {p:.4f}", flush=True)


def main() -> None:
    sets = {
        "teller77": lambda count: intents("teller77", random.Random(0), count),
        "banking77": lambda count: intents("banking77", random.Random(0), count),
        "articles": lambda count: articles(random.Random(0), count),
        "notes": lambda count: notes(random.Random(0), count),
        "documents": lambda count: documents(random.Random(0), count),
    }
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", nargs="*", choices=sets, default=list(sets))
    options.add_argument("--questions", type=int, default=500)
    chosen = options.parse_args()
    for name in chosen.sets:
        measure(name, sets[name](chosen.questions))


if __name__ == "__main__":
    main()
