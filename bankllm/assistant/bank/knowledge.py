"""The knowledge articles: one short, general answer for each intent that no ledger is needed for."""

import json
from dataclasses import dataclass
from pathlib import Path

KNOWLEDGE_FILE = Path(__file__).parents[2] / "data" / "knowledge.json"


@dataclass(frozen=True)
class Article:
    title: str
    answer: str


def load_knowledge(path: Path = KNOWLEDGE_FILE) -> dict[str, Article]:
    """Intent → article: Banking77's 77 intents, and greeting, goodbye, human_agent, out_of_scope."""
    return {intent: Article(**fields) for intent, fields in json.loads(path.read_text(encoding="utf-8")).items()}
