"""Greetings, thanks and goodbyes."""

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.facts import TOOLS, Facts, Request


@TOOLS.register("small_talk")
def look_up(request: Request, bank: Bank) -> Facts:
    id_ = "goodbye" if request.intent == "goodbye" else "greeting"
    return Facts(load_knowledge()[id_].answer, sources=(f"knowledge:{id_}",))
