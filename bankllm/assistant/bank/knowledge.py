"""The knowledge articles: one short, general answer per intent that does not need data from the ledger."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).parents[2] / "data"


@dataclass(frozen=True)
class Article:
    title: str
    answer: str


@cache
def load_knowledge() -> dict[str, Article]:
    """Load the articles by intent: Banking77's 77 intents, and greeting, goodbye, human_agent, out_of_scope."""
    articles = json.loads((DATA / "knowledge.json").read_text(encoding="utf-8"))
    return {intent: Article(**fields) for intent, fields in articles.items()}
