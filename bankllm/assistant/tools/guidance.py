"""What needs no ledger: help articles, the hand-over to a person, and small talk."""

import re

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.facts import TOOLS, Facts, Request

ASKED_BEFORE = "You asked about this before; if it is still open, ask me for a person."
GOODBYE = re.compile(
    r"\b(?:thank\w*|thx|ta|cheers|(?:good)?bye|see you|good ?night"
    r"|that(?:['’]?s| is| will be) (?:all|everything|it|me|us)"
    r"|that(?:['’]?ll| will) do|all the best|take care|nice one"
    r"|perfect|lovely|brilliant|great|grand|sound|sorted|appreciated?|super|excellent|wonderful|cool|grazie|gracias|merci|danke|ciao"
    r"|adios|va bene|have a (?:good|nice|lovely|great) \w+)\b",
    re.IGNORECASE,
)
HELLO = re.compile(r"^\W*(?:hi|hiya|hello|hey|good (?:morning|afternoon|evening))\b|\?|\bwho are you\b", re.IGNORECASE)
INSULT = re.compile(
    r"\b(?:useless|idiots?|stupid|dumb|rubbish|morons?|shut up|hate (?:you|this|it)|crap|f off|wankers?|bastards?"
    r"|f+u*c?k\w*|sh[i1]t\w*|gits?|crooks?|pathetic|worst)\b",
    re.IGNORECASE,
)
SORRY = "I am sorry that I was no help. Tell me in other words what you need, or say “person” to reach our team."
ACKNOWLEDGES = re.compile(
    r"\W*(?:(?:oh|ah|ok(?:ay)?|right|good|fine|i see|got it|gotcha|understood|noted|hm+|so|then|well|alright|all right"
    r"|fair enough|yes|yeah|no|no worries|(?:that|it)(?: one)?(?:['’]?s| is) (?:fine|ok(?:ay)?|good))\b\W*)+",
    re.IGNORECASE,
)
HEARD = Facts("All right. Tell me what else you would like to know or do, or say “person” to reach our team.")
"""After a remark that asks nothing."""
NOTHING = "All right, nothing was done. What else can I do for you?"


@TOOLS.register("knowledge")
def article(request: Request, bank: Bank) -> Facts:
    """The article that the search or the classifier chose (`article`)."""
    id_ = request.call.arguments["article"]
    found = load_knowledge()[id_]
    text, sources = found.answer, [f"knowledge:{id_}"]
    if not request.call.arguments.get("sure", True):
        text = f"I am not certain that this is your question. About “{found.title}”: {text}"
        if other := request.call.arguments.get("other"):
            text = f"{text} If your question is about “{load_knowledge()[other].title}”, tell me so."
    if request.earlier is not None and id_ == request.intent:
        text = f"{text} {ASKED_BEFORE}"
        sources.append(f"memory:{request.earlier.id}")
    result = {"article": id_, "title": found.title, "updated": found.updated}
    return Facts(text, (f"About “{found.title}”: {found.answer}",), tuple(sources), result=result)


@TOOLS.register("human_agent")
def hand_over(request: Request, bank: Bank) -> Facts:
    text, sources = load_knowledge()["human_agent"].answer, ["knowledge:human_agent"]
    if request.earlier is not None:
        text = f"{text} I will pass on what you wrote before: “{request.earlier.text}”."
        sources.append(f"memory:{request.earlier.id}")
    return Facts(text, sources=tuple(sources))


@TOOLS.register("small_talk")
def talk(request: Request, bank: Bank) -> Facts:
    if request.call.arguments.get("answer"):
        return Facts(NOTHING)
    if INSULT.search(request.message):
        return Facts(SORRY)
    if ACKNOWLEDGES.fullmatch(request.message):
        return HEARD
    id_ = "goodbye" if GOODBYE.search(request.message) and not HELLO.search(request.message) else "greeting"
    return Facts(load_knowledge()[id_].answer, sources=(f"knowledge:{id_}",))
