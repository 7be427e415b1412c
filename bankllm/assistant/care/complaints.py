"""Recognise a complaint by its words, and answer it with the article about complaints and the offer of a person."""

import re

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.facts import Facts

ARTICLE, OMBUDSMAN = "complaint_make", "ombudsman"
OFFER = "Say “person”, and I will hand you over to somebody who takes your complaint, with what you wrote here."
_COMPLAINT = re.compile(
    r"(?<!can't )(?<!cannot )(?<!cant )(?<!no )(?<!not )(?<!n't a )\bcomplain(?:t|ts|ing)?\b"
    r"|\bgrievance\b|\bombudsman\b|\bdissatisfaction\b|\bwho (?:do|can|should) i escalate\b"
    r"|\byour (?:\w+ )?(?:app|bank|service|website|system|staff|chat ?bot)\b.{0,80}"
    r"\b(?:sort|fix) (?:it|this|that|yourselves)\b"
    r"|\byour (?:\w+ )?(?:app|website|system)\b.{0,30}\b(?:log|kick|throw|lock)\w* me out\b.{0,30}\b(?:times|again)\b"
    r"|\b(?:your|this|the) (?:service|bank|app|treatment)(?: of your staff)? (?:is|was) (?:a disgrace|appalling|a joke|"
    r"disgraceful|unacceptable|outrageous|disgusting|shocking)\b"
    r"|\bthis is (?:a disgrace|appalling|disgraceful|(?:totally |simply )?unacceptable|outrageous)\b"
    r"|\btold (?:me )?(?:\w+ )?different (?:things|answers|stories)\b|\b(?:closed|ended|cut off) my (?:chat|call)\b"
    r"|\b(?:staff|colleagues?|agents?|clerk) (?:is|was|were|are) (?:(?:so|very|really) )?rude\b"
    r"|\b(?:worst|useless|rubbish|terrible|awful) (?:\w+ )?bank\b"
    r"|\b(?:nobody|no one|noone) (?:ever )?(?:calls?|called|rings?|rang|answers|answered) (?:me|back|my)\b"
    r"|\b(?:very|extremely|deeply|really|so) (?:unhappy|dissatisfied|disappointed) with (?:you|your|the|this)\b",
    re.IGNORECASE,
)


def complaint_reply(message: str) -> Facts | None:
    """Return the reply to a complaint, or None. It comes before tools: what went wrong needs a person."""
    if not _COMPLAINT.search(message.replace("’", "'")):
        return None
    article = OMBUDSMAN if OMBUDSMAN in message.lower() else ARTICLE
    return Facts(f"{load_knowledge()[article].answer} {OFFER}", sources=(f"knowledge:{article}",))
