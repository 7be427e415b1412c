"""Read replies: whether one is right, and how it came, whole or as a stream piece by piece."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bankllm.assistant.bank.ledger import SYMBOLS

_FILLER = (
    "a about an and are at certainly check course do for have hello here hi i i'll i'm in is it just let's let me "
    "moment my no of ok okay on one our please right so sure thank thanks that the there this to was we well were "
    "yes you your"
)
FILLER = frozenset(_FILLER.split())
"""Words that carry no content at the beginning of a reply, such as those of “Sure, let me check”."""
LATE = {"busy", "resting", "time-out", "unreachable"}
"""Reasons of a fallback that come from the load, and not from what the language model wrote."""
PUNCTUATION = '.,:;!?…“”"()–—-'
_MONEY = re.compile(rf"[{''.join(SYMBOLS.values())}]\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class LedgerQuestion:
    customer_id: str
    text: str
    required: Sequence[str]
    """The amounts that a right answer states, such as `£1,204.50`."""
    allowed: Sequence[str] = ()
    """The amounts that it may also state, such as a refund that was taken off."""

    def outcome(self, reply: Mapping[str, Any]) -> str:
        """Return `right`, `wrong`, `asked back` or `handed over` for a reply of `/api/v1/chat`."""
        required, stated = amounts(" ".join(self.required)), amounts(reply["reply"])
        if reply["question"]:
            return "asked back"
        if required <= stated <= required | amounts(" ".join(self.allowed)):
            return "right"
        return "handed over" if reply["handover_id"] else "wrong"


def amounts(text: str) -> set[str]:
    """Return the amounts of money in a text, `£1,020.00` and `£1020` as the same one."""
    return {found.replace(",", "").removesuffix(".00") for found in _MONEY.findall(text)}


class StreamedReply:
    """Reads the events of `/api/v1/chat/stream`."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, float]] = []
        """Each piece of the reply's text, with the time at which it came. Without those that a fallback replaced."""
        self.reply: dict[str, Any] | None = None
        self.error = "the stream ended without a reply"
        self.first_content_s: float | None = None
        """When the first word that carries content was complete, at the latest the whole reply."""

    def read(self, event: bytes, at_s: float) -> None:
        """Read one event, which came at `at_s`."""
        kind, _, data = event.decode().strip().partition("\n")
        body = json.loads(data.removeprefix("data:") or "{}")
        text = "".join(piece for piece, _ in self.pieces)
        if kind == "event: token":
            self.pieces.append((body["text"], at_s))
            text += body["text"]
        elif kind == "event: reply":
            self.reply, self.error = body, ""
            if text != body["reply"]:  # a fallback replaces what was shown
                self.pieces, self.first_content_s = [(body["reply"], at_s)], None
            self.first_content_s = self.first_content_s or at_s
        else:
            self.error = f"event: error {body.get('status', '')}".strip()
        if self.first_content_s is None and carries_content(text):
            self.first_content_s = at_s


def carries_content(text: str) -> bool:
    """Whether a complete word of the text, after which a space follows, is more than filler."""
    *complete, _ = re.split(r"\s+", text.lower().replace("’", "'"))
    return any(word.strip(PUNCTUATION) not in FILLER for word in complete if word.strip(PUNCTUATION))


def reply_columns(question: LedgerQuestion | None, reply: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the columns of a chat's row that are read from the reply of `/api/v1/chat`, if there is one."""
    asked = {"asked": "question" if question else "text", "answer": "none" if question else ""}
    if reply is None or "responder" not in reply:
        return asked
    by_rules = reply["understood_by"] == "rules" and reply["responder"] == "template"
    reasons = [each for each in (reply["understanding_fallback"], reply["fallback"]) if each not in (None, "abstained")]
    late = [reason for reason in reasons if reason in LATE]
    return {
        **asked,
        "served_by": "rules" if by_rules else "model",
        "fallback": [*late, *reasons, ""][0],
        "degraded": "yes" if late else "no",
        "answer": question.outcome(reply) if question else "",
    }
