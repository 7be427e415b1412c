"""The fixed replies to customers in distress. No model words them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
from cachetools import TTLCache

from bankllm.assistant.care.detection import POSSIBLE, SURE, THRESHOLD, detect, texts
from bankllm.settings import Distress

OFFER = "If something weighs on you, or you do not feel safe, say “person”: somebody in our team will listen."
RECENT_S, RECENT_KEPT = 1800.0, 4096
"""For how long, and of how many conversations, a process knows the last reply."""


@dataclass(frozen=True)
class CareReply:
    """A reply that is sent unchanged. The turn is stored nowhere, and metrics count it as `intent`."""

    text: str
    sources: tuple[str, ...] = ()
    """`knowledge:<article>` with the next steps; empty where an article would be out of place."""
    intent: str = "human_agent"
    """What the reply and the metrics show: a person takes over. They never show the kind of distress."""
    holds_payments: bool = False
    """Whether the customer surely may be about to pay a criminal."""
    probability: float = 1.0
    of_scam: bool = False

    def as_offer(self) -> "CareReply":
        """Return the reply as one that is only offered, unless a phrase made it certain."""
        return self if self.probability == 1 else replace(self, probability=POSSIBLE, holds_payments=False)

    def instead_of_answer(self, ambiguous: bool) -> bool:
        """Whether this reply is sent. If not, the answer to the message ends with `OFFER`.

        `ambiguous`: whether the message also means something else, such as a known problem.
        """
        return self.probability >= (SURE if ambiguous else THRESHOLD)


def care_reply(message: str, vector: np.ndarray, helplines: Mapping[Distress, str] | None = None) -> CareReply | None:
    """Return the fixed reply to a customer in distress, or None for an ordinary message.

    `vector` is the message's embedding of MiniLM, (384,). `helplines` is the setting: kind of distress → name and
    number, for the sentence about whom the customer can call. Raises `ModelError` for another embedding.
    """
    kind, probability = detect(message, vector)
    if probability < POSSIBLE:
        return None
    reply = texts()[kind]
    if probability < 1:
        reply = reply | reply.get("possible", {})
    helpline = (helplines or {}).get(kind)
    parts = [reply["text"], *([reply["helpline"].format(helpline=helpline)] if helpline else []), reply["person"]]
    sources = tuple(f"knowledge:{article}" for article in reply["articles"])
    scam = reply.get("holds_payments", False)
    return CareReply(" ".join(parts), sources, "human_agent", probability >= SURE and scam, probability, scam)


class RecentReplies:
    """The last of these replies by conversation, for what a message after it means. Thread-safe, and never stored."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._replies: TTLCache[tuple[str, str], CareReply] = TTLCache(RECENT_KEPT, RECENT_S)

    def add(self, customer_id: str, conversation_id: str, reply: CareReply) -> None:
        with self._lock:
            self._replies[customer_id, conversation_id] = reply

    def of(self, customer_id: str, conversation_id: str) -> CareReply | None:
        with self._lock:
            return self._replies.get((customer_id, conversation_id))
