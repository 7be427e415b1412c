"""What the classifier's probabilities mean: an intent, or an abstention with the likeliest topics."""

import textwrap
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.facts import Facts, tool_of
from bankllm.errors import ModelError
from bankllm.model.artifact import ClassifierConfig
from bankllm.util.redaction import mask
from bankllm.vectors.rows import Match

SMALL_TALK = frozenset({"goodbye", "greeting", "human_agent", "out_of_scope"})
CLEAR = 0.8
"""Confidence from which an intent is taken without the turn before it, and its article without a search."""
RELATED = 0.6
"""Cosine similarity from which an earlier message counts as being about the same topic."""
QUOTED_CHARACTERS = 160
"""Maximum length of a quotation."""


class Decision(NamedTuple):
    intent: str = ""
    """`out_of_scope` also for an abstention."""
    confidence: float = 0.0
    alternatives: tuple[str, ...] = ()
    """Titles of the likeliest topics if the classifier abstained."""
    is_topic: bool = False
    """Whether the intent is a topic of Teller77, and no other article is nearer to the message."""
    topic: str = ""
    """The likeliest intent that is no small talk, also of an abstention; its probability follows."""
    chance: float = 0.0


def check_intents(intents: Iterable[str]) -> None:
    """Raises `ModelError` if no tool and no article answers one of a classifier's intents."""
    if unanswered := sorted(n for n in intents if tool_of(n) == "knowledge" and n not in load_knowledge()):
        raise ModelError(
            f"The classifier has intents without an answer: {', '.join(unanswered[:5])}. Expected Banking77's "
            "intents and the assistant's; train on the data set `assistant`, add articles to knowledge.json, or "
            "add a tool for them (CONTRIBUTING.md)."
        )


def decide(probabilities: np.ndarray, artifact: ClassifierConfig) -> Decision:
    """(classes,) probabilities → decision. The classifier abstains below its calibrated threshold."""
    order = np.argsort(-probabilities)
    names = [artifact.label_names[i] for i in order]
    confidence = float(probabilities.max())
    topics = [(name, float(probabilities[i])) for name, i in zip(names, order, strict=True) if name not in SMALL_TALK]
    topic, chance = topics[0] if topics else ("", 0.0)
    if confidence >= artifact.threshold:
        return Decision(names[0], confidence, topic=topic, chance=chance)
    titles = tuple(_title(name) for name, _ in topics[:2])
    return Decision("out_of_scope", confidence, titles, topic=topic, chance=chance)


def ask_back(alternatives: tuple[str, ...], earlier: Match | None) -> Facts:
    """The reply of a classifier that abstains."""
    topics = " or ".join(f"“{title}”" for title in alternatives)
    text = "I am not sure that I understand, so I am handing you over to a person in our team."
    if topics:
        text += f" Is it about {topics}? Then tell me so in a few more words, and I will answer myself."
    if earlier is None:
        return Facts(text)
    more = f"I will also pass on what you wrote before: “{earlier.text}”."
    return Facts(f"{text} {more}", sources=(f"memory:{earlier.id}",))


def related(matches: list[Match], decision: Decision) -> Match | None:
    """The nearest earlier message on the same topic: same intent or, if a person takes over, any intent."""
    hands_over = decision.intent == "human_agent" or decision.alternatives
    for match in matches:
        topic = match.metadata["intent"]
        if match.score >= RELATED and topic not in SMALL_TALK and (hands_over or topic == decision.intent):
            masked = mask(match.text)  # an old store may hold it unmasked
            return replace(match, text=textwrap.shorten(masked, QUOTED_CHARACTERS, placeholder="…"))
    return None


def _title(intent: str) -> str:
    article = load_knowledge().get(intent)
    return article.title if article else f"Your {intent.replace('_', ' ')}"
