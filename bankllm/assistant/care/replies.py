"""The fixed replies to customers in distress. No model words them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bankllm.assistant.care.detection import POSSIBLE, SURE, THRESHOLD, detect, texts
from bankllm.settings import Distress

OFFER = "If something weighs on you, or you do not feel safe, say “person”: somebody in our team will listen."


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
    helpline = (helplines or {}).get(kind)
    parts = [reply["text"], *([reply["helpline"].format(helpline=helpline)] if helpline else []), reply["person"]]
    sources = tuple(f"knowledge:{article}" for article in reply["articles"])
    scam = reply.get("holds_payments", False)
    return CareReply(" ".join(parts), sources, "human_agent", probability >= SURE and scam, probability, scam)
