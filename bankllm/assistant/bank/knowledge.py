"""The knowledge articles: short answers that need no data from the ledger, one per intent of Banking77 and 244 more."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

DATA = Path(__file__).parents[2] / "data"


@dataclass(frozen=True)
class Article:
    title: str
    answer: str
    updated: str = ""
    """ISO date of the last review; empty for small talk."""
    asked: tuple[str, ...] = ()
    """Ways in which customers ask for it, as texts for a search. No article answers those of `out_of_scope`."""
    plain: tuple[str, ...] = ()
    """Further ways of asking, which do not count in the mean vector of the article."""


class Found(NamedTuple):
    article: str
    """The id."""
    sure: bool
    """Whether about nine of ten such articles are right."""
    clear: bool = False
    """Whether it fits by `articles.CLEARLY`."""
    near: bool = False
    """Whether the question is nearly one of the ways of asking for it."""
    other: str = ""
    """The id of the next best article, which the reply names if this one is not sure; empty if none fits."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of a call of the tool `knowledge`."""
        other = {"other": self.other} if self.other and not self.sure else {}
        return {"article": self.article, "sure": self.sure, **other}


@cache
def load_knowledge() -> dict[str, Article]:
    """Load the articles by id; an article that answers an intent has the intent's name."""
    articles = json.loads((DATA / "knowledge.json").read_text(encoding="utf-8"))
    listed = ("asked", "plain")
    return {id_: Article(**row | {name: tuple(row.get(name, ())) for name in listed}) for id_, row in articles.items()}
