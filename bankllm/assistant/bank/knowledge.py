"""The knowledge articles: short answers that need no data from the ledger, one per intent of Banking77 and 195 more."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).parents[2] / "data"


@dataclass(frozen=True)
class Article:
    title: str
    answer: str
    updated: str = ""
    """ISO date of the last review; empty for small talk."""
    asked: tuple[str, ...] = ()
    """Ways in which customers ask for the article, as texts for a search."""


@cache
def load_knowledge() -> dict[str, Article]:
    """Load the articles by id; an article that answers an intent has the intent's name."""
    articles = json.loads((DATA / "knowledge.json").read_text(encoding="utf-8"))
    return {
        id_: Article(row["title"], row["answer"], row.get("updated", ""), tuple(row.get("asked", ())))
        for id_, row in articles.items()
    }
