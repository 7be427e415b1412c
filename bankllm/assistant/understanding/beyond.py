"""What a message asks that no tool can give: sums of sums, what is left over, and data of somebody else.

The reply says so. A figure that answers another question would be taken for the answer.
"""

from collections.abc import Callable, Container, Sequence

from bankllm.assistant.bank.tools import Call
from bankllm.assistant.followups import asks
from bankllm.assistant.understanding import WORDS, patterns
from bankllm.assistant.understanding.customer import CustomerView, accounts_named, by_label
from bankllm.assistant.understanding.names import fitting, plain
from bankllm.assistant.understanding.readers import quoted
from bankllm.assistant.understanding.sum_wishes import wish

READS = frozenset(("balance", "spending", "transactions"))
"""Tools whose figures would be taken for the answer."""
P = patterns("beyond")
REPLIES: dict[str, str] = WORDS["beyond_replies"]
CARD_TOOLS = frozenset(("card_status", "freeze_card", "unfreeze_card", "report_card", "replace_card", "set_limit"))
SHOWS = frozenset(("account_details", "card_status"))
_COMPUTED = ("share", "sum", "coming", "left", "currency", "trip", "together", "ranked")
_WISHED = {"without": "except", "per": "average"}
"""Argument of `sum_wishes` → reply if no call has it."""


def beyond(
    message: str,
    calls: Sequence[Call],
    customer_id: str,
    ordinary: Container[str],
    view: Callable[[], CustomerView],
) -> str:
    """Return the reply to what cannot be answered, or an empty text. `ordinary` has words that are no names."""
    tools = {call["tool"] for call in calls}
    if asks_for_another(message):
        return REPLIES["cared_for"]
    if P["authority"].search(message):
        return REPLIES["authority"]
    if _is_of_somebody_else(message, tools, customer_id, ordinary, view):
        return REPLIES["other"]
    rows = P["rows_of"].search(message) if tools & (READS | SHOWS) else None
    if rows and rows[1].lower() not in ordinary and not fitting(rows[1], view().names):
        return REPLIES["unknown"].format(quoted(rows[1]))
    if tools & (READS | SHOWS) and P["secret"].search(message):
        return REPLIES["secret"]
    given = {name for call in calls for name in call}
    given_too = {"trip", "currency"} if "foreign" in given else {"trip"} if "merchant" in given else set()
    given_too |= {"ranked"} if "by" in given else set()
    computed = (name for name in _COMPUTED if name not in given_too)
    found = next((name for name in computed if P[name].search(message)), "")
    asked = wish(message).asked
    found = found or next((_WISHED[name] for name in asked.keys() & _WISHED.keys() - given), "")
    if found == "except" and tools == {"balance"} and accounts_named(asked["without"], view().accounts):
        return ""  # `resolve` leaves the account out
    if found in ("average", "coming", "left", "except") and "standing_orders" in tools:
        return ""  # what is paid each month, or is left after it
    if found in ("coming", "left") and "transfer" in tools:
        return ""  # the balance stands beside the order that is proposed
    if found == "together" and len(calls) > 1 and tools == {"spending"}:
        return ""  # `tools.together.together` adds them up
    return REPLIES[found] if found and tools & READS else ""


def asks_for_another(message: str) -> bool:
    """Whether somebody who looks after another person asks for that person's data."""
    return bool(P["cared_for"].search(message))


def asks_of_other(message: str) -> bool:
    """Whether a message asks what a relative or a friend has or does with money."""
    return bool(P["other"].search(message))


def _is_of_somebody_else(
    message: str, tools: set[str], customer_id: str, ordinary: Container[str], view: Callable[[], CustomerView]
) -> bool:
    if numbers := [match[1] or match[2] for match in P["number"].finditer(message)]:
        own = {customer_id, *(part for one in view().accounts for part in (one.account_id, one.account_number))}
        return any(number.upper() not in own for number in numbers)
    if P["person"].search(message) or (tools & READS and P["other"].search(message)):
        return True
    of_cards = tools & CARD_TOOLS or P["card_state"].search(message)
    if of_cards and (card := P["card_of"].search(message)):
        return not (card["who"] and card["who"].lower() in plain(" ".join(view().merchants)).split())
    bare = P["bare_named"].search(message) if tools & READS else None
    if bare and fitting(bare[1], by_label(view().payees), typos=False) and bare[1].lower() not in ordinary:
        return True
    named = P["from_named" if "transfer" in tools else "named"].search(message)
    if not named or named[1].lower().split()[-1] in ordinary:
        return False
    return not accounts_named(named[1], view().accounts)


def still_refused(message: str, reply: str) -> str:
    """Return the refusal of the reply before again, if the message only says that the other person agrees."""
    refused = REPLIES["other"] if REPLIES["other"] in reply else ""
    return refused if P["agrees"].search(message) and not asks(message) else ""
