"""Questions with the knowledge articles that answer them, packaged with bankllm (CC0): they measure searches."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

PATH = Path(__file__).parents[1] / "data" / "article_questions.jsonl"


@dataclass(frozen=True)
class ArticleQuestion:
    question: str
    articles: tuple[str, ...]
    """Ids of the articles that answer the question; a search must find one of them. Empty if none does."""
    kind: Literal["paraphrase", "number", "name", "code", "none"]
    """What the question shares with the article: the meaning, or a number, a name or a code; `none` has no article."""


def load() -> list[ArticleQuestion]:
    """Return the packaged questions."""
    lines = PATH.read_text(encoding="utf-8").splitlines()
    return [TypeAdapter(ArticleQuestion).validate_json(line) for line in lines]
