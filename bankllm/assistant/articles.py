"""Find the help article that answers a question, by hybrid search with an honest "nothing fits".

An article is one text of a collection in memory. Its vector is the mean of the vectors of its title, its answer and the
ways in which customers ask for it; an article about an intent of Teller77 counts the training texts of that intent as
much. The vectors are packaged: `python benchmarks/understanding.py --articles` writes them.
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

from bankllm.assistant.bank.knowledge import Article, load_knowledge
from bankllm.assistant.decision import Decision
from bankllm.assistant.understanding import FOLDER
from bankllm.datasets import teller77
from bankllm.settings import get_settings
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.service import VectorService
from bankllm.vectors.sqlite.store import SQLiteStore

logger = logging.getLogger(__name__)

VECTORS = FOLDER / "articles.safetensors"
THRESHOLD = 0.4
"""Least cosine similarity of an answer. Of questions about the intents of Teller77's test set 95 % reach it, of its
messages that no article answers 41 %."""
LIKELY = 0.5
"""Cosine similarity from which an article is given without the remark that it may not be the right one."""

UNSURE = 0.5
"""Confidence of the classifier below which its topic is not taken."""
LEAD = (-0.12, 0.0875)
"""How much nearer than the classifier's topic another article may be, from the log odds of the confidence: a logistic
regression on half of Banking77's test set and on the 446 article questions."""


class Found(NamedTuple):
    article: str
    """The id."""
    score: float
    """Cosine similarity with the question."""


class ArticleSearch:
    def __init__(self, embedder: Embedder) -> None:
        articles = {id_: article for id_, article in load_knowledge().items() if article.updated}
        vectors = _packaged(embedder.model_id)
        if vectors is None or vectors.shape[1] != embedder.dim:
            logger.info("the articles are embedded, because the packaged vectors are of another model or text")
            vectors = article_vectors(articles, embedder)
        topics = teller77.intent_definitions()
        self._topics = {id_: row for id_, row in zip(articles, vectors, strict=True) if id_ in topics}
        self._others = np.stack([row for id_, row in zip(articles, vectors, strict=True) if id_ not in topics])
        service = VectorService(SQLiteStore(None, embedder.dim, embedder.model_id), embedder)
        self._collection = service.collection("articles")
        texts = ["\n".join((article.title, article.answer, *article.asked)) for article in articles.values()]
        self._ids = dict(zip(self._collection.add(texts, vectors=vectors), articles, strict=True))

    def best(self, question: str, vector: np.ndarray) -> Found | None:
        """Return the best article for a question with its embedding (dim,); None if no article fits."""
        matches = self._collection.search(question, 3, vector=vector)
        # The score of the best meaning, because the first match may have only the question's code or number.
        score = max(match.score for match in matches)
        return Found(self._ids[matches[0].id], score) if score >= THRESHOLD else None

    def is_topic(self, decision: Decision, vector: np.ndarray) -> bool:
        """Return whether a question with this embedding is about the classifier's topic, and not about another article.

        The classifier knows the 77 topics of Banking77 only, and is sure of one of them for many other questions too.
        """
        if decision.alternatives or decision.intent not in self._topics or decision.confidence < UNSURE:
            return False
        lead = (self._others @ vector).max() - self._topics[decision.intent] @ vector
        confidence = min(decision.confidence, 0.999)
        return bool(lead < LEAD[0] + LEAD[1] * math.log(confidence / (1 - confidence)))


def article_vectors(articles: dict[str, Article], embedder: Embedder) -> np.ndarray:
    """Return (articles, dim) float32 vectors of unit length."""
    data = teller77.load(get_settings())
    examples = defaultdict(list)
    for text, label in zip(data.train.texts, data.train.labels, strict=True):
        examples[data.label_names[label]].append(text)
    means = []
    for id_, article in articles.items():
        texts = [article.title, f"{article.title}\n{article.answer}", *article.asked]
        parts = [_unit(embedder.encode(group).mean(axis=0)) for group in (texts, examples[id_]) if group]
        means.append(_unit(np.sum(parts, axis=0)))
    return np.stack(means)


def write(embedder: Embedder, path: Path = VECTORS) -> None:
    """Write the vectors of the packaged articles in half precision."""
    articles = {id_: article for id_, article in load_knowledge().items() if article.updated}
    vectors = article_vectors(articles, embedder).astype(np.float16)
    save_file({"vectors": vectors}, path, {"encoder": embedder.model_id, "knowledge": _knowledge_hash()})


def _packaged(encoder: str) -> np.ndarray | None:
    """Return the packaged vectors if they are of this encoder and of the articles as they are now."""
    with safe_open(VECTORS, framework="numpy") as file:
        if file.metadata() == {"encoder": encoder, "knowledge": _knowledge_hash()}:
            return np.asarray(file.get_tensor("vectors"), np.float32)
    return None


def _knowledge_hash() -> str:
    texts = [(id_, vars(article)) for id_, article in load_knowledge().items() if article.updated]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))
