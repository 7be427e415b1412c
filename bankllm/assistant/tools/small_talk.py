"""Greetings, thanks, goodbyes, and answers without a question."""

import re

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.facts import TOOLS, Facts, Request

GOODBYE = re.compile(r"\b(?:thank\w*|thx|ta|cheers|(?:good)?bye|see you|good ?night|that'?s all)\b", re.IGNORECASE)
NOTHING = "All right, nothing was done. What else can I do for you?"


@TOOLS.register("small_talk")
def look_up(request: Request, bank: Bank) -> Facts:
    if request.call.arguments.get("answer"):
        return Facts(NOTHING)
    id_ = "goodbye" if GOODBYE.search(request.message) else "greeting"
    return Facts(load_knowledge()[id_].answer, sources=(f"knowledge:{id_}",))
