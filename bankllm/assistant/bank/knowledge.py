"""The knowledge articles: one short, general answer per intent that does not need data from the ledger."""

import json
from dataclasses import dataclass
from pathlib import Path

KNOWLEDGE_FILE = Path(__file__).parents[2] / "data" / "knowledge.json"


@dataclass(frozen=True)
class Article:
    """The answer to one intent, and the title under which a reply offers it as a topic."""

    title: str
    answer: str


def load_knowledge(path: Path = KNOWLEDGE_FILE) -> dict[str, Article]:
    """Load the articles by intent: Banking77's 77 intents, and greeting, goodbye, human_agent, out_of_scope."""
    return {intent: Article(**fields) for intent, fields in json.loads(path.read_text(encoding="utf-8")).items()}
