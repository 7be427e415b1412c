"""Responders word a reply from facts that the engine has gathered; they look nothing up themselves.

`TemplateResponder` states the facts in fixed sentences, so it can state nothing that is not among them. A language
model words them more freely (`generation`), and where it fails or invents the template's sentences stand in.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from bankllm.assistant.bank.knowledge import Article
from bankllm.assistant.bank.ledger import Account, Transaction, format_money
from bankllm.vectors.rows import Match

QUOTED_CHARACTERS = 160
"""An earlier message is quoted up to this length."""
Fallback = Literal[
    "abstained", "busy", "cut off", "empty", "failed", "not grounded", "refused", "resting", "time-out", "unreachable"
]
"""Why the template worded a reply that a language model was there to word."""


@dataclass(frozen=True)
class Facts:
    """All that a reply to one message may rest on."""

    message: str
    intent: str
    article: Article | None = None
    """For every intent but those that the ledger answers."""
    accounts: tuple[Account, ...] = ()
    transactions: tuple[Transaction, ...] = ()
    alternatives: tuple[str, ...] = ()
    """Titles of the likeliest topics, where the classifier abstained."""
    earlier: Match | None = None
    """An earlier message of this customer that bears on this one."""


@dataclass(frozen=True)
class Reply:
    text: str
    sources: tuple[str, ...]
    """What the text rests on: `ledger:<account>`, `knowledge:<intent>`, `memory:<id>`."""
    responder: str = "template"
    """Who worded it in the end, whoever was asked first."""
    fallback: Fallback | None = None
    """Why that is not who was asked; None where it is."""


class Responder(Protocol):
    """Words a reply."""

    @property
    def name(self) -> str: ...

    def respond(self, facts: Facts) -> Reply: ...

    def stream(self, facts: Facts) -> Iterator[str | Reply]:
        """The text in pieces as they come, and the `Reply` last.

        The reply's text is the pieces joined or, where its `fallback` is set, replaces what was shown of them.
        """
        ...


class TemplateResponder:
    """Fixed sentences around the facts: no model, no invention."""

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
    word = "balance is" if len(amounts) == 1 else "balances are"
    return Reply(f"Your account {word}: {'; '.join(amounts)}.", _ledger_sources(facts.accounts))


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
        raise ValueError(f"No article for intent {facts.intent!r}: the engine must supply one.")
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
    # Not str.format: a customer's message may hold braces.
    text = sentence.replace("{text}", textwrap.shorten(facts.earlier.text, QUOTED_CHARACTERS, placeholder="…"))
    return Reply(f"{reply.text} {text}", (*reply.sources, f"memory:{facts.earlier.id}"))


def _ledger_sources(rows: tuple[Account, ...] | tuple[Transaction, ...]) -> tuple[str, ...]:
    return tuple(f"ledger:{account_id}" for account_id in dict.fromkeys(row.account_id for row in rows))
