"""Check the questions that a language model read against what rules read in the same message.

A model leaves out an account, copies half a period, or takes money out for money in. The rules find days, accounts and
the customer's own names by closed lists, so that what they find must be in the calls.
"""

from collections.abc import Sequence

from bankllm.assistant.bank.tools import Call
from bankllm.assistant.facts import ReadyCall
from bankllm.assistant.understanding.completion import SUBJECTS
from bankllm.assistant.understanding.customer import accounts_named
from bankllm.assistant.understanding.names import fitting
from bankllm.assistant.understanding.periods import readable
from bankllm.assistant.understanding.readers import P as ANSWERS
from bankllm.assistant.understanding.resolve import INCOME, resolve
from bankllm.assistant.understanding.routes import CHOSEN, LOOK_UPS, P, R, of_before, routed
from bankllm.assistant.understanding.rules import SURE, Rules
from bankllm.assistant.understanding.slots import brings_in
from bankllm.assistant.understanding.sum_wishes import SUMS, with_exclusion_last
from bankllm.assistant.understanding.sum_wishes import P as FIGURES

DAYS = ("period", "date")
FOUND = (*DAYS, "account", "minimum", "maximum")
"""Arguments that rules find by closed lists."""
REVERSES = (P["less_refunds"], P["to_whom"], FIGURES["without_small"], FIGURES["without_large"])
"""Words that reverse what follows them, or ask for what was named before: a model copies that all the same."""
NAMED = SUBJECTS | {"to", "account"}
"""Arguments that name something of the customer's own."""
OWN_DATA = LOOK_UPS - {"knowledge"} | {"card_status", "account_details"}
CONFIDENT, LIKELY = 0.8, 0.95
"""The model's confidence from which money came in although no word of the message says so, and from which closed lists
of words do not add a category or choose another tool."""


def agreed(
    calls: Sequence[Call], confidence: float, messages: Sequence[str], rules: Rules, by_rules: Sequence[Call]
) -> Sequence[Call] | None:
    """Return the model's calls with what they lack, or None if the calls of the rules are to be taken.

    `confidence` is the model's probability of its least likely token.
    """
    tools, by_tools = {call["tool"] for call in calls}, {call["tool"] for call in by_rules}
    message, earlier = messages[-1], " ".join(messages[-2:-1])
    if {"balance", "standing_orders"} <= by_tools and (
        R["left_after"].search(message) or R["left_less"].search(message)
    ):
        return None
    if by_tools == {"standing_orders"} and tools <= SUMS and R["pays_now"].search(message):
        return None  # what is paid now, and not what was paid in all
    if by_rules and (of_before(message, earlier) or any(words.search(message) for words in REVERSES)):
        return None
    refused = P["not_account"].search(with_exclusion_last(message))
    if by_rules and refused and accounts_named(refused[1], rules.customer.accounts):
        return None
    own_data = by_tools <= LOOK_UPS - {"knowledge"} and all(call.keys() & NAMED for call in by_rules)
    regular = by_tools == {"standing_orders"} and not R["how_to"].search(message)
    own_data = own_data or (regular and rules.probabilities(messages).max() >= SURE)
    if by_rules and own_data and not tools & OWN_DATA and _is_clear(by_rules, rules, message):
        return None  # the rules found the customer's own name, account or days, and the model an article or nothing
    if not calls:
        return calls if confidence >= CONFIDENT else None
    if by_tools > tools and by_tools - tools - SUMS:
        return None  # a wish was lost
    if confidence < LIKELY and any(name in CHOSEN and CHOSEN[name].search(message) for name in by_tools - tools):
        return None  # words of a closed list name another tool
    if len(calls) > 1:
        calls = [_with_way(call, confidence, message) for call in calls]
        if not tools <= LOOK_UPS:
            return [_with_whole_card(call, by_rules) for call in calls]
        about = {(call.get("merchant"), call.get("category")) for call in calls}
        whole = by_tools == tools and len(by_rules) == len(about) == 1 and _has_all(by_rules, calls)
        if about == {(None, None)} and by_rules and all(call.keys() & SUBJECTS for call in by_rules):
            return None  # of what the payments are was lost
        unclear = not _has_all(calls, by_rules) or not _is_clear(calls, rules, message)
        return None if whole or (unclear and _is_clear(by_rules, rules, message)) else calls
    (call,) = calls
    routes = {routed(call["tool"], message, earlier)} == by_tools != tools
    if routes and (not tools | by_tools <= SUMS or call.keys() & {"minimum", "maximum"}):
        return None
    ordered = any(R["order"].search(one) for one in messages[:-1])
    if call["tool"] == "cancel_transfer" and not ordered and not R["cancels"].search(message):
        return None
    if call["tool"] not in LOOK_UPS:
        return calls
    found = rules.read(call["tool"], messages)
    if len(found) == 1:
        calls = [_merged(call, found[0], confidence, message, rules)]
    elif _has_all(found, calls) and (_is_clear(found, rules, message) or not _has_all(calls, found)):
        return found
    if _is_clear(calls, rules, message):
        return calls
    if _is_clear(found, rules, message):
        return found
    return None if by_rules and by_tools <= OWN_DATA and _is_clear(by_rules, rules, message) else calls


def _merged(call: Call, found: Call, confidence: float, message: str, rules: Rules) -> Call:
    """Return the model's call with the longer and the other values that the rules found."""
    merged = dict(call)
    for name in FOUND:
        if name in found and _is_better(name, call.get(name, ""), found[name], confidence, rules):
            merged[name] = found[name]
    own, said = found.get("merchant", ""), call.get("merchant", call.get("category", ""))
    if own and own != said and fitting(own, rules.customer.names, partial=False):
        if said in own or not fitting(said, rules.customer.names):
            merged = {name: words for name, words in merged.items() if name != "category"} | {"merchant": own}
    elif not said and "category" in found and confidence < LIKELY:
        merged["category"] = found["category"]
    if ANSWERS["all_accounts"].search(found.get("account", "")):
        merged["account"] = found["account"]
    if "order" in found:
        merged.setdefault("order", found["order"])
    if call["tool"] == "spending":
        merged |= {"direction": "in"} if found.get("direction") == "in" else {}
    return _with_way(merged, confidence, message)


def _with_way(call: Call, confidence: float, message: str) -> Call:
    """Return the sum without the model's money in, if the message says that money went out, or nothing of either."""
    category = call.get("category", "").lower()
    says_so = call["tool"] != "spending" or brings_in(message) or category in INCOME
    if says_so or not (category or confidence < CONFIDENT or P["outgoing"].search(message)):
        return call
    return {name: words for name, words in call.items() if name != "direction"}


def _with_whole_card(call: Call, by_rules: Sequence[Call]) -> Call:
    """Return the call with the rules' longer name of its card: the model copied "Visa" of "Visa Debit"."""
    names = [
        one["card"] for one in by_rules if one["tool"] == call["tool"] and call.get("card", "\0") in one.get("card", "")
    ]
    return {**call, "card": names[0]} if names else call


def _is_better(name: str, said: str, found: str, confidence: float, rules: Rules) -> bool:
    """Whether the rules' words for an argument are the longer or the surer ones."""
    if name in DAYS:
        days = readable(found, rules.today) or ANSWERS["until_payday"].fullmatch(found)
        return said in found and (bool(said) or name == "period") and bool(days)
    return not said or (confidence < CONFIDENT and said not in found and found not in said)


def _has_all(calls: Sequence[Call], others: Sequence[Call]) -> bool:
    """Whether the calls have each day, account and amount of the other ones, or a longer or shorter copy of it."""
    words = [word for call in calls for word in call.values()]
    return all(
        any(call[name] in word or word in call[name] for word in words)
        for call in others
        for name in FOUND
        if name in call
    )


def _is_clear(calls: Sequence[Call], rules: Rules, message: str) -> bool:
    """Whether nothing is left to ask about the calls, and nothing of the message that restricts is unused."""
    ready = resolve(calls, rules.customer, rules.today, message)
    return all(isinstance(one, ReadyCall) and not one.unread for one in ready)
