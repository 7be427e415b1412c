"""A help article: the one that the search or the classifier chose (`article`)."""

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.facts import TOOLS, Facts, Request

ASKED_BEFORE = "You asked about this before; if it is still open, ask me for a person."


@TOOLS.register("knowledge")
def look_up(request: Request, bank: Bank) -> Facts:
    id_ = request.call.arguments["article"]
    article = load_knowledge()[id_]
    text, sources = article.answer, [f"knowledge:{id_}"]
    if not request.call.arguments.get("sure", True):
        text = f"I am not certain that this is your question. About “{article.title}”: {text}"
    if request.earlier is not None and id_ == request.intent:
        text = f"{text} {ASKED_BEFORE}"
        sources.append(f"memory:{request.earlier.id}")
    result = {"article": id_, "title": article.title, "updated": article.updated}
    return Facts(text, (f"About “{article.title}”: {article.answer}",), tuple(sources), result=result)
