"""Order matches again with a cross-encoder, and tell from the scores when no text answers a question.

A cross-encoder reads question and text together. This is more exact than comparing their vectors, and needs one pass of
the model per match, so it orders only the first matches. None is packaged with bankllm.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bankllm.errors import ModelError, UsageError, explained
from bankllm.model import base_models
from bankllm.model.quiet_loading import quiet_loading
from bankllm.settings import Settings
from bankllm.vectors.rows import Match

Search = Callable[[str], Sequence[Match]]


class Reranker:
    def __init__(self, model: str, settings: Settings | None = None) -> None:
        """Load a cross-encoder by Hub id, such as `cross-encoder/ms-marco-MiniLM-L6-v2`, or from a folder.

        Raises `ModelError` if it cannot be loaded, or if the model is no cross-encoder with one score.
        """
        base = base_models.resolve(model, settings)
        location = base_models.ready_to_load(base, settings)
        with quiet_loading():
            from sentence_transformers import CrossEncoder

            expected = "Expected a cross-encoder of sentence-transformers, as a Hub id or a folder."
            with explained(ModelError, f"The re-ranker {base.name} cannot be loaded", expected):
                self._model = CrossEncoder(location, device=base_models.device(settings))
        kinds = [str(kind) for kind in self._model.config.architectures or []]
        if self._model.num_labels != 1 or not any("SequenceClassification" in kind for kind in kinds):
            raise ModelError(
                f"{base.name} is {' and '.join(kinds) or 'a model'} with {self._model.num_labels} outputs. Expected a "
                "cross-encoder that gives one score, such as cross-encoder/ms-marco-MiniLM-L6-v2."
            )

    def rank(self, query: str, matches: Sequence[Match]) -> list[tuple[Match, float]]:
        """Return the matches with the cross-encoder's scores, best first; scores compare matches of one query."""
        if not matches:
            return []
        ranked = self._model.rank(query, [match.text for match in matches], show_progress_bar=False)
        return [(matches[hit["corpus_id"]], float(hit["score"])) for hit in ranked]


@dataclass(frozen=True)
class Threshold:
    score: float
    """If no match has a cosine similarity of at least this, no text answers the question."""
    recognised: float
    """Share of the answerable questions whose best match reaches the threshold."""


def calibrate(search: Search, answerable: Sequence[str], unanswerable: Sequence[str], error: float = 0.05) -> Threshold:
    """Find the threshold for "nothing fits" from questions that the searched texts answer, and questions they do not.

    It is the ⌈(n + 1)(1 − error)⌉-th smallest of the best scores of the n unanswerable questions. So at most the share
    `error` of new unanswerable questions reaches it, if they are like these (split conformal prediction, arXiv
    2107.07511). Raises `UsageError` if there are too few questions for that.
    """
    needed = math.ceil(1 / error - 1) if 0 < error < 1 else 1
    if not 0 < error < 1 or len(unanswerable) < needed or not answerable:
        raise UsageError(
            f"Expected an error between 0 and 1, at least {needed} unanswerable questions for it, and at least one "
            f"answerable; got {error}, {len(unanswerable)} and {len(answerable)}. Add questions, or allow more errors."
        )
    reached, others = (
        np.sort([max((match.score for match in search(question)), default=-1.0) for question in questions])
        for questions in (answerable, unanswerable)
    )
    place = min(math.ceil((len(others) + 1) * (1 - error)), len(others))
    score = float(np.nextafter(others[place - 1], np.inf))
    return Threshold(score, float(np.mean(reached >= score)))
