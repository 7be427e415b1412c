"""Turn the words of calls into values, and choose the articles: what a reply covers."""

from collections.abc import Sequence
from dataclasses import replace

from bankllm.assistant.actions.proposals import PLANS
from bankllm.assistant.bank.tools import Call
from bankllm.assistant.conversation.reading import Reading
from bankllm.assistant.decision import CLEAR
from bankllm.assistant.facts import Facts, Question, ReadyCall
from bankllm.assistant.followups import FEW_WORDS, asks, is_follow_up, stands_alone
from bankllm.assistant.orders.waiting import Item
from bankllm.assistant.understanding.completion import COMPLETED
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.problems import evident, instead_of_freezing, names_nothing, on_topic, told
from bankllm.assistant.understanding.resolve import resolve
from bankllm.util.redaction import mask

WITHOUT_NAMES = frozenset(("tool", "question", "reason", "answer", "order", "direction"))
"""Parts of a call that name nothing of the customer's."""
NAMING = COMPLETED | {"card_status", "standing_orders"}
"""Reading tools whose calls get the account, card or days that the message names."""
UNKNOWN = Facts(
    "I do not know the answer to that, and I would rather not guess. Ask me in other words, or say “person” and I will "
    "hand you over to our team."
)


def with_values(reading: Reading, calls: Sequence[Call], asked: str, said: str) -> list[Item]:
    """Return the calls with values, the questions to ask first, and articles.

    `asked` is the text for which an article is searched; `said` is the message, from which calls are completed.
    """
    turns, decision = reading.turns, reading.pending.decision
    needs_names = any(call["tool"] in PLANS.keys() | NAMING or call.keys() - WITHOUT_NAMES for call in calls)
    ready = resolve(calls, reading.view() if needs_names else CustomerView(), reading.today, said)
    if turns and any(isinstance(item, ReadyCall) and item.unread for item in ready):  # an account of earlier messages
        own = [{name: words for name, words in call.items() if name != "account" or words in said} for call in calls]
        ready = resolve(own, reading.view(), reading.today, said) if own != [*calls] else ready
    off_topic = decision.intent == "out_of_scope" and decision.confidence >= CLEAR and not decision.alternatives
    answers = bool(turns and turns[0].question and not asks(reading.message))
    found = reading.article(said, decision)
    near = bool(found and found.clear and found.near) and len(said.split()) > FEW_WORDS
    alone = asked == said and (not turns or near or stands_alone(said))
    follows = bool(turns) and is_follow_up(said)
    bare = (alone and names_nothing(ready, said)) or (len(ready) == 1 and not follows and _is_open(ready[0]))
    if off_topic and not answers and bare:
        bank = {"article": "out_of_scope"} if isinstance(ready[0], Question) else {"question": said}
        ready = [ReadyCall("knowledge", bank)]
    if article := instead_of_freezing(ready, found, said):
        ready = [ReadyCall("knowledge", {"article": article})]
    if alone:
        ready = evident(ready, said)
        if decision.is_topic:
            ready = on_topic(ready, decision.intent, said)
        elif found and found.sure and names_nothing(ready, said):
            ready = [ReadyCall("knowledge", found.arguments)]
        elif found:
            ready = told(ready, found, said)
    texts = [asked] if len(ready) == 1 else []
    if texts and turns and asked == reading.message:
        texts.append(mask(f"{turns[0].user_message} {asked}"))
    return [_with_article(reading, item, texts) for item in ready]


def _with_article(reading: Reading, item: ReadyCall | Question, texts: Sequence[str]) -> Item:
    """Choose the article of a knowledge call: that of a sure intent, else the best one for the question.

    `texts` are what to search, the second one if nothing fits the first; empty if the call is one of several.
    """
    if not isinstance(item, ReadyCall) or item.tool != "knowledge" or "article" in item.arguments:
        return item
    decision = reading.pending.decision
    topic = replace(item, arguments={**item.arguments, "article": decision.intent})
    if texts and decision.is_topic:
        return topic
    for text in texts or [item.arguments["question"]]:
        if found := reading.article(text, decision if texts and text == texts[0] else None):
            return replace(item, arguments={**item.arguments, **found.arguments})
    off_topic = decision.intent == "out_of_scope" and not decision.alternatives
    return topic if decision.is_topic or off_topic else UNKNOWN


def _is_open(item: ReadyCall | Question) -> bool:
    """Whether it is a question of an order that names neither a payee nor whence an amount is moved."""
    if not isinstance(item, Question):
        return False
    named = item.slot == "to" if item.options else "to" in item.call
    return not named and not item.call.keys() >= {"amount", "from"}
