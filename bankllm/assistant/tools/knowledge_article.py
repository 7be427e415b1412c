"""A knowledge article, for each intent that has one. It also answers small talk."""

from dataclasses import replace

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.facts import TOOLS, Facts, Request, Tool
from bankllm.datasets.teller77 import intent_definitions

ASKED_BEFORE = "You asked about this before; if it is still open, ask me for a person."


def look_up(request: Request, bank: Bank) -> Facts:
    article = load_knowledge()[request.intent]
    facts = Facts(article.answer, (f"About “{article.title}”: {article.answer}",), (f"knowledge:{request.intent}",))
    if request.earlier is None:
        return facts
    hands_over = request.intent == "human_agent"
    more = f"I will pass on what you wrote before: “{request.earlier.text}”." if hands_over else ASKED_BEFORE
    return replace(facts, text=f"{facts.text} {more}", sources=(*facts.sources, f"memory:{request.earlier.id}"))


TOOLS.add("knowledge_article", Tool(load_knowledge().keys() & intent_definitions().keys(), look_up))
