"""The hand-over to a person."""

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.facts import TOOLS, Facts, Request


@TOOLS.register("human_agent")
def look_up(request: Request, bank: Bank) -> Facts:
    text = load_knowledge()["human_agent"].answer
    if request.earlier is None:
        return Facts(text, sources=("knowledge:human_agent",))
    text = f"{text} I will pass on what you wrote before: “{request.earlier.text}”."
    return Facts(text, sources=("knowledge:human_agent", f"memory:{request.earlier.id}"))
