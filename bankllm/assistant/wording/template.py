"""The responder interface, its input and output, and the template responder.

A responder generates the text of a reply from facts that the engine has looked up; it looks up nothing itself.
`TemplateResponder` inserts the facts into fixed sentences, so it can only state these facts. `GeneratingResponder`
(`llm`) uses a language model, and falls back to the template if the model fails or states a number that is not a fact.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from bankllm.assistant.bank.knowledge import Article
from bankllm.assistant.bank.ledger import Account, Transaction, format_money
from bankllm.vectors.rows import Match

QUOTED_CHARACTERS = 160
"""An earlier message is shortened to this length when it is quoted."""
Fallback = Literal[
    "abstained", "busy", "cut off", "empty", "failed", "not grounded", "refused", "resting", "time-out", "unreachable"
]
"""Why the template generated a reply although a language model is configured.

`abstained`: the classifier abstained, so there are no facts. `busy`: too many replies are being generated. `cut off`:
the text ended before the model was finished. `empty`: no text. `failed`: an unexpected error or response. `not
grounded`: the text states a number that is not among the facts. `refused`: the model server answered with a permanent
error. `resting`: the circuit breaker is open. `time-out` and `unreachable`: the model did not respond.
"""


@dataclass(frozen=True)
class Facts:
    """The input of a responder: the message, and all facts that the reply may state."""

    message: str
    intent: str
    article: Article | None = None
    """None for the intents that are answered from the ledger."""
    accounts: tuple[Account, ...] = ()
    transactions: tuple[Transaction, ...] = ()
    alternatives: tuple[str, ...] = ()
    """Titles of the most likely topics if the classifier abstained, else empty."""
    earlier: Match | None = None
    """An earlier message of the same customer about the same topic."""


@dataclass(frozen=True)
class Reply:
    """The output of a responder."""

    text: str
    sources: tuple[str, ...]
    """Sources of the facts: `ledger:<account>`, `knowledge:<intent>`, `memory:<id>`."""
    responder: str = "template"
    """Name of the responder that generated the text: `template` after a fallback."""
    fallback: Fallback | None = None
    """Why the template generated the text instead of the language model; None if there was no fallback."""


class Responder(Protocol):
    """Generates the text of a reply from facts."""

    @property
    def name(self) -> str: ...

    def respond(self, facts: Facts) -> Reply: ...

    def stream(self, facts: Facts) -> Iterator[str | Reply]:
        """Yield the text in pieces while it is generated, then the complete `Reply`.

        The reply's text equals the joined pieces. If the reply's `fallback` is set, its text replaces the pieces.
        """
        ...


class TemplateResponder:
    """Inserts the facts into fixed sentences, without a model."""

    name = "template"

    def respond(self, facts: Facts) -> Reply:
        if facts.alternatives:
            return _with_earlier(_ask_back(facts), facts, "I will also pass on what you wrote before: “{text}”.")
        if facts.intent == "account_balance":
            return _balance(facts)
        if facts.intent == "recent_transactions":
            return _transactions(facts)
        if facts.intent == "account_details":
            return _details(facts)
        reply = _article(facts)
        if facts.intent == "human_agent":
            return _with_earlier(reply, facts, "I will pass on what you wrote before: “{text}”.")
        return _with_earlier(reply, facts, "You asked about this before; if it is still open, ask me for a person.")

    def stream(self, facts: Facts) -> Iterator[str | Reply]:
        reply = self.respond(facts)
        yield reply.text
        yield reply


def _balance(facts: Facts) -> Reply:
    amounts = [f"{account.name} {format_money(account.balance_minor, account.currency)}" for account in facts.accounts]
    verb = "balance is" if len(amounts) == 1 else "balances are"
    return Reply(f"Your account {verb}: {'; '.join(amounts)}.", _ledger_sources(facts.accounts))


def _transactions(facts: Facts) -> Reply:
    if not facts.transactions:
        return Reply("There are no transactions in your accounts yet.", _ledger_sources(facts.accounts))
    lines = [f"{t.booked} {t.description} {format_money(t.amount_minor, t.currency)}" for t in facts.transactions]
    return Reply(f"Your latest transactions: {'; '.join(lines)}.", _ledger_sources(facts.transactions))


def _details(facts: Facts) -> Reply:
    lines = [f"{a.name}, {a.currency}, IBAN {a.iban}, opened {a.opened}" for a in facts.accounts]
    return Reply(f"Your account details: {'; '.join(lines)}.", _ledger_sources(facts.accounts))


def _article(facts: Facts) -> Reply:
    if facts.article is None:
        raise ValueError(f"No article for intent {facts.intent!r}. Expected the engine to supply one.")
    return Reply(facts.article.answer, (f"knowledge:{facts.intent}",))


def _ask_back(facts: Facts) -> Reply:
    topics = " or ".join(f"“{title}”" for title in facts.alternatives)
    return Reply(
        f"I am not sure that I understand, so I am handing you over to a person in our team. Is it about {topics}? "
        "Then tell me so in a few more words, and I will answer myself.",
        (),
    )


def _with_earlier(reply: Reply, facts: Facts, sentence: str) -> Reply:
    if facts.earlier is None:
        return reply
    # Not str.format, because a customer's message may contain braces.
    text = sentence.replace("{text}", textwrap.shorten(facts.earlier.text, QUOTED_CHARACTERS, placeholder="…"))
    return Reply(f"{reply.text} {text}", (*reply.sources, f"memory:{facts.earlier.id}"))


def _ledger_sources(rows: tuple[Account, ...] | tuple[Transaction, ...]) -> tuple[str, ...]:
    return tuple(f"ledger:{account_id}" for account_id in dict.fromkeys(row.account_id for row in rows))
