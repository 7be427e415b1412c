"""What a tool is asked, what is asked back, what a tool returns, and the registry of the tools (`TOOLS`).

A reply may state only what a tool returned. Each module in `tools/` also words its facts; a responder either sends that
text or lets a language model word the facts again.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.bank.tools import Call
from bankllm.assistant.caller import Caller
from bankllm.util.registry import Registry
from bankllm.vectors.rows import Match


@dataclass(frozen=True)
class ReadyCall:
    """A tool call whose copied words `understanding.resolve` turned into values."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Only what the customer named. Days are ISO dates: `date`, or `date_from` and `date_to` (both included; without
    `date_from` a period has no beginning). Amounts are integers: `amount_minor`, `minimum_minor`, `maximum_minor`, with
    `currency` (ISO code). Names are the ledger's: `merchant`, `category`, `account_id`, `card_id`, `payee_id`,
    `from_account_id`, `to_account_id`. `order`, `direction`, `kind`: values of `bank.tools`. `limit` is an integer;
    `question`, `reason` and `reference` are the customer's words."""
    unread: tuple[str, ...] = ()
    """Sentences about arguments of a reading tool that fit nothing of the customer's, such as "There is no merchant
    “Lidl” in your accounts." If there is one, the tool is not run and the sentences are the reply: a result without the
    argument would answer another question."""


NEXT = "next"
"""Slot of a `Question` that is not asked: its `call` has the arguments of a `ReadyCall` to propose after a yes."""


@dataclass(frozen=True)
class Question:
    """What the assistant must ask before it can run a call."""

    tool: str
    slot: str
    """The argument of the call that the answer fills, e.g. `amount`, `to`, `card`."""
    text: str
    options: tuple[str, ...] = ()
    """Answers to choose from; empty if the answer is free text."""
    call: Call = field(default_factory=dict)
    """The call as far as it is known, in words. `understanding.question_answers.answered` adds the answer to it."""

    @classmethod
    def stored(cls, text: str | None) -> "Question | None":
        """Return the question that is kept with a turn, as JSON; None if the turn asked nothing."""
        return cls(**json.loads(text)) if text else None


@dataclass(frozen=True)
class Request:
    message: str
    """Account numbers are masked."""
    customer_id: str
    call: ReadyCall
    intent: str = ""
    earlier: Match | None = None
    """An earlier message of the same customer about the same topic, masked and shortened for a quotation."""
    caller: Caller = field(default_factory=Caller, compare=False)


@dataclass(frozen=True)
class Facts:
    text: str
    """The reply in the bank's own words. It restates what was understood."""
    lines: tuple[str, ...] = ()
    """The facts for a language model, which may state no other figure. They never contain the customer's own words: an
    amount that a customer claims is not a fact. Empty if `text` must be sent unchanged."""
    sources: tuple[str, ...] = ()
    """`ledger:<account>`, `knowledge:<article>`, `memory:<id>`."""
    private: tuple[str, ...] = ()
    """Names of payees in `lines`, which a model on another machine must not see."""
    result: dict[str, Any] | None = None
    """The facts as data, for `ChatReply.calls`: JSON values, amounts in minor units. `rows` is a table."""


Tool = Callable[[Request, Bank], Facts]
"""Returns facts of the request's customer only, and raises what the bank raises. Called from several threads."""
TOOLS: Registry[Tool] = Registry("tool", "bankllm.tools", "bankllm.assistant.tools")
"""Tool by its name in `data/tools.toml`. A tool with the name of an intent answers that intent."""
INTENT_TOOLS = {
    "account_balance": "balance",
    "goodbye": "small_talk",
    "greeting": "small_talk",
    "recent_transactions": "transactions",
}


def tool_of(intent: str) -> str:
    """Return the name of the tool that answers an intent of the classifier: articles, if no other tool does."""
    return intent if intent in TOOLS else INTENT_TOOLS.get(intent, "knowledge")


def either_way(tool: Tool) -> Tool:
    """The tool, which adds what went the other way if it finds nothing of the merchant that the call names."""

    def both(request: Request, bank: Bank) -> Facts:
        facts, arguments = tool(request, bank), dict(request.call.arguments)
        if "merchant" not in arguments or not facts.result or facts.result["count"]:
            return facts
        refunds = arguments.pop("kind", None)
        arguments["direction"] = "in" if refunds or arguments.get("direction") != "in" else "out"
        other = tool(replace(request, call=replace(request.call, arguments=arguments)), bank)
        if not other.result or not other.result["count"]:
            return facts
        text, lines = f"{facts.text} {other.text}", (*facts.lines, *other.lines)
        return replace(facts, text=text, lines=lines, private=other.private)

    return both
