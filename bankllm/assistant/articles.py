"""Find the help article that answers a question, by meaning and words, with an honest "nothing fits".

    score = cosine similarity + how far that with the nearest way of asking exceeds NEAR
            + WORDS · BM25 + CODES · BM25 of numbers and codes

The vector of an article is the mean of the vectors of its title, its answer and the ways in which customers ask for it;
an article about an intent of Teller77 counts the training texts of that intent as much. Nothing fits a question that is
nearer to one of those that no article answers, which are `asked` of the article `out_of_scope`. The vectors are
packaged: `python benchmarks/understanding.py --articles` writes them.
"""

import hashlib
import json
import logging
import math
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from bankllm.assistant.bank.knowledge import Article, Found, load_knowledge
from bankllm.assistant.decision import Decision
from bankllm.assistant.understanding import FOLDER
from bankllm.datasets import teller77
from bankllm.settings import get_settings
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.sqlite.words import Words

logger = logging.getLogger(__name__)

VECTORS = FOLDER / "articles.safetensors"
NAMES = ("articles", "asked", "unanswered")
"""Groups of vectors: of the articles, of all ways to ask for them, and of questions that no article answers."""
NEAR, WORDS, CODES = 0.55, 0.03, 0.05
"""Parameters of a score, chosen among ways of asking (`asked`) that were left out of the articles, Teller77's test
texts, and everyday questions, so that none loses much."""
FITS = 0.16
"""Least amount by which the best score must exceed the similarity with a question that no article answers. `FITS` and
`SURE` were chosen on every other question of `datasets.article_questions`."""
CLEARLY = 0.39
"""The same for an article that is given beside what a tool was read for, or instead of it: of TellerChat's 8,539 single
messages, 1.5 % are changed by it, and most of these get the article beside the same rows."""
SURE = 0.08
"""Lead over the second article from which an article is given without the remark that it may not be the right one."""
NEARLY = 0.8
"""Similarity with a way of asking from which it may be asked in other words: of TellerChat's 8,539 single messages, 177
are so near to a sure article, and 5 of them ask for the balance, payments or a transfer."""
UNSURE = 0.5
"""Confidence of the classifier below which its topic is not taken."""
LEAD = (0.0, 0.08, 0.25)
"""By how much the score of the best other article may exceed that of the classifier's topic: a constant, a factor
of the log odds of the topic, and what is added if the other article is a topic too. Chosen on half of Banking77's test
set and on questions that callers ask of the articles."""
SAME = 0.95
"""Similarity with a way of asking from which its article is taken, whatever the classifier says."""
SURE_TOPIC = 0.15
"""`SURE` for a topic that the classifier chooses: by how much `LEAD` exceeds what it must."""


class ArticleScores(NamedTuple):
    """How near a question is to each article."""

    scores: np.ndarray
    """(articles,)"""
    near: np.ndarray
    """(articles,) the similarity of the nearest way of asking."""
    unanswered: float
    """The similarity with a question that no article answers."""


class ArticleSearch:
    def __init__(self, embedder: Embedder) -> None:
        articles = _articles()
        vectors = _packaged(embedder)
        if vectors is None:
            logger.info("the articles are embedded, because the packaged vectors are of another model or text")
            vectors = _vectors(embedder)
        self._vectors, self._asked, self._unanswered = (vectors[name] for name in NAMES)
        self._ids = list(articles)
        self._topics = np.array([id_ in teller77.intent_definitions() for id_ in articles])
        ways = list(map(_ways, articles.values()))
        self._firsts = np.cumsum([0, *map(len, ways)])[:-1]
        texts = ["\n".join((article.answer, *way)) for article, way in zip(articles.values(), ways, strict=True)]
        self._words = Words.empty().extended(texts)

    def best(self, scored: ArticleScores, decision: Decision | None = None) -> Found | None:
        """Return the best article for a question; None if no article fits.

        That is the classifier's topic if it has one and no other article is so much nearer.
        """
        scores, unanswered = scored.scores, scored.unanswered
        *_, second, first = np.argsort(scores)
        margin = self._margin(decision, scored) if decision else -1
        sure = scores[first] - scores[second] >= SURE
        if decision and margin > 0:
            topic, sure = self._ids.index(decision.topic), margin >= SURE_TOPIC
            second, first = (second if topic == first else first), topic
        lead = scores[first] - unanswered
        if scores.max() - unanswered < FITS:
            return None
        near = sure and scored.near[first] >= NEARLY
        other = self._ids[second] if scores[second] - unanswered >= FITS else ""
        return Found(self._ids[first], bool(sure), bool(lead >= CLEARLY), bool(near), other)

    def is_topic(self, decision: Decision, scored: ArticleScores) -> bool:
        """Return whether a question is about the classifier's intent, and not another article.

        The classifier knows the 77 topics of Banking77 only, and is sure of one of them for many other questions too.
        """
        if decision.alternatives or decision.intent != decision.topic or decision.confidence < UNSURE:
            return False
        return self._margin(decision, scored) > 0

    def scores(self, question: str, vector: np.ndarray) -> ArticleScores:
        """Compare a question with its embedding (dim,) with all articles."""
        words, codes = self._words.scores(question)
        near = np.maximum.reduceat(self._asked @ vector, self._firsts)
        scores = self._vectors @ vector + np.maximum(near - NEAR, 0) + WORDS * words
        scores += 0 if codes is None else CODES * codes
        return ArticleScores(scores, near, float((self._unanswered @ vector).max()))

    def by_article(self, scored: ArticleScores) -> dict[str, float]:
        return dict(zip(self._ids, scored.scores.tolist(), strict=True))

    def _margin(self, decision: Decision, scored: ArticleScores) -> float:
        """Return how far the other articles are from being taken instead of the classifier's topic; -1 without one."""
        if decision.topic not in self._ids:
            return -1.0
        place, chance = self._ids.index(decision.topic), min(max(decision.chance, 0.001), 0.999)
        scores, nearest = scored.scores, scored.near.argmax()
        if not self._topics[place] or (scored.near[nearest] >= SAME and nearest != place):
            return -1.0
        others = scores.copy()
        others[place] = -np.inf
        other = others.argmax()
        allowed = LEAD[0] + LEAD[1] * math.log(chance / (1 - chance)) + LEAD[2] * self._topics[other]
        return float(allowed + scores[place] - others[other])


def write(embedder: Embedder, path: Path = VECTORS) -> None:
    """Write the vectors of the packaged articles in half precision."""
    vectors = {name: rows.astype(np.float16) for name, rows in _vectors(embedder).items()}
    save_file(vectors, path, {"encoder": embedder.model_id, "knowledge": _knowledge_hash()})


def _articles() -> dict[str, Article]:
    return {id_: article for id_, article in load_knowledge().items() if article.updated}


def _ways(article: Article) -> list[str]:
    return [article.title, *article.asked, *article.plain]


def _vectors(embedder: Embedder) -> dict[str, np.ndarray]:
    """Return (n, dim) float32 vectors of unit length, by the names of `NAMES`."""
    data = teller77.load(get_settings())
    examples = defaultdict(list)
    for text, label in zip(data.train.texts, data.train.labels, strict=True):
        examples[data.label_names[label]].append(text)
    means = []
    for id_, article in _articles().items():
        texts = [article.title, f"{article.title}\n{article.answer}", *article.asked]
        parts = [_unit(embedder.encode(group).mean(axis=0)) for group in (texts, examples[id_]) if group]
        means.append(_unit(np.sum(parts, axis=0)))
    ways = [text for article in _articles().values() for text in _ways(article)]
    groups = np.stack(means), embedder.encode(ways), embedder.encode(load_knowledge()["out_of_scope"].asked)
    return dict(zip(NAMES, groups, strict=True))


def _packaged(embedder: Embedder) -> dict[str, np.ndarray] | None:
    """Return the packaged vectors if they are of this encoder and of the articles as they are now."""
    with safe_open(VECTORS, framework="numpy") as file:
        if file.metadata() != {"encoder": embedder.model_id, "knowledge": _knowledge_hash()}:
            return None
        vectors = {name: np.asarray(file.get_tensor(name), np.float32) for name in NAMES}
    return vectors if vectors["articles"].shape[1] == embedder.dim else None


def _knowledge_hash() -> str:
    texts = [(id_, vars(article)) for id_, article in load_knowledge().items() if article.updated or article.asked]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))
