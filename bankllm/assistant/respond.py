"""Run what was understood, and word the facts, one part of the reply after the other."""

import json
from collections.abc import Iterator

from bankllm.assistant.actions.answers import proposed
from bankllm.assistant.actions.plans import HELD
from bankllm.assistant.actions.proposals import PLANS, ActionDesk
from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.decision import ask_back
from bankllm.assistant.facts import NEXT, TOOLS, Facts, Question, ReadyCall, Request
from bankllm.assistant.orders.waiting import Item
from bankllm.assistant.tools.together import together
from bankllm.assistant.turn import CallResult, PendingChat
from bankllm.assistant.wording.responder import Reply, Responder
from bankllm.vectors.rows import Match

BETWEEN = "\n\n"
"""Between two parts of a reply."""
ONE_AT_A_TIME = "I ask about one thing at a time. Once this is settled, tell me again about the rest."
AFTER_THIS = "I do one thing at a time. After your yes to this I ask you about the next one."
THEN_THE_REST = "Then tell me again about the rest."
WITHDRAWN = "I have not done this: {}. Tell me what you would like instead."
UNASKED = ("knowledge", "small_talk")
"""Tools that answer another question than a correction such as "no, the other one"."""
SHOWN = {"action_id", "text", "digest", "expires_at", "tool", "arguments"}
Part = tuple[Request, Facts]


def run(pending: PendingChat, bank: Bank, desk: ActionDesk | None, earlier: Match | None) -> list[Part]:
    """Run the calls for this customer: first all that can be answered, then the first one that needs an answer.

    Sets `calls`, `question`, `pending_action` and `sources` of the chat.
    """
    if desk:
        desk.book_due()
    items = pending.items or [ask_back(pending.decision.alternatives, earlier)]
    asking = [item for item in items if _asks(item)]
    later = [Facts(ONE_AT_A_TIME)] if asking[1:] else []
    actions = [item for item in asking if isinstance(item, ReadyCall)]
    if actions[1:] and asking[:2] == actions[:2]:
        pending.question = Question(actions[1].tool, NEXT, "", call=actions[1].arguments)
        later = [Facts(f"{AFTER_THIS} {THEN_THE_REST}" if asking[2:] else AFTER_THIS)]
    if pending.withdrawn and not any(not isinstance(item, Facts) and item.tool in PLANS for item in asking):
        asks = "?" in pending.message
        items = [one for one in pending.items if asks or isinstance(one, Facts) or one.tool not in UNASKED]
        later = [Facts(WITHDRAWN.format(pending.withdrawn.text))]
    parts: list[Part] = []
    for item in [*(item for item in items if not _asks(item)), *asking[:1], *later]:
        call = item if isinstance(item, ReadyCall) else ReadyCall("")
        request = Request(pending.message, pending.customer_id, call, pending.decision.intent, earlier, pending.caller)
        parts.append((request, _facts(item, request, bank, desk, pending)))
    if total := together(parts):
        parts.append((Request(pending.message, pending.customer_id, ReadyCall("")), total))
    pending.sources = tuple(dict.fromkeys(source for _, facts in parts for source in facts.sources))
    return parts


def hands_over(pending: PendingChat) -> bool:
    """Whether a person takes over: the customer wants one, is in distress, or was not understood."""
    lost = not pending.items and not pending.withdrawn
    return lost or not pending.kept or any(call.tool == "human_agent" for call in pending.calls)


def summary(pending: PendingChat) -> tuple[str, str, list[str], list[str], list[str]]:
    """The arguments of `HandOverDesk.offer`: who asks, what was asked and understood, and what was tried."""
    earlier = list(reversed(pending.turns))
    asked = [*(turn.user_message for turn in earlier), pending.message]
    understood = [f"{call.tool} {json.dumps(call.arguments)}" for call in pending.calls]
    tried = [turn.assistant_response for turn in earlier]
    return pending.customer_id, pending.conversation_id, asked, understood, tried


def worded(responder: Responder, parts: list[Part]) -> Iterator[str | Reply]:
    """Yield the pieces of the text, then the whole reply. A part that no model may word is sent as it stands."""
    replies: list[Reply] = []
    for request, facts in parts:
        if replies:
            yield BETWEEN
        for item in responder.stream(request, facts):
            if isinstance(item, str):
                yield item
            else:
                replies.append(item)
    names = [reply.responder for reply in replies if reply.responder != "template"]
    faults = [reply.fallback for reply in replies if reply.fallback not in (None, "abstained")]
    fallback = faults[0] if faults else None if names else replies[0].fallback
    yield Reply(BETWEEN.join(reply.text for reply in replies), [*names, "template"][0], fallback)


def _asks(item: Item) -> bool:
    """Whether the customer has to answer before anything happens."""
    return isinstance(item, Question) or (isinstance(item, ReadyCall) and item.tool in PLANS)


def _facts(item: Item, request: Request, bank: Bank, desk: ActionDesk | None, pending: PendingChat) -> Facts:
    if isinstance(item, Question):
        if item.tool == "transfer" and desk and desk.holds_payments(pending.customer_id):
            return Facts(HELD)
        pending.question = item
        return Facts(item.text)
    if isinstance(item, Facts):
        if item.result and "action_id" in item.result:  # an action that was confirmed or cancelled
            done = {name: item.result[name] for name in ("tool", "arguments")}
            pending.calls.append(CallResult(**done, result=item.result))
        return item
    if item.tool in PLANS:
        desk = None if pending.rights == "read" else desk
        facts, proposal = proposed(desk, pending.customer_id, pending.conversation_id, item)
        pending.pending_action = proposal.model_dump(mode="json", include=SHOWN) if proposal else None
    else:
        facts = Facts(" ".join(item.unread)) if item.unread else TOOLS.get(item.tool)(request, bank)
    pending.calls.append(CallResult(tool=item.tool, arguments=dict(item.arguments), result=facts.result))
    return facts
