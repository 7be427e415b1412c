"""Choose the tool of a message by closed lists of words: what repeats or is to come, what is there, a sum, a list."""

from bankllm.assistant.bank.tools import TOOL_NAMES
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.slots import brings_in

P, R = patterns("patterns"), patterns("routes")
CHOSEN = patterns("wishes")
"""Tool → words of a clause that choose it."""
LOOK_UPS = frozenset(("balance", "spending", "transactions", "standing_orders", "knowledge"))
"""Tools among which words decide against the head."""
_LIMITS = LOOK_UPS | {"set_limit"}
_KNOWLEDGE = frozenset(("knowledge",))
_ROUTES = (
    (_LIMITS | {"account_details", "card_status"}, R["overdraft"], "balance"),
    (frozenset(("set_limit",)), R["overdraft_limit"], "knowledge"),
    (_LIMITS, R["card_limit"], "card_status"),
    (_LIMITS, R["own_limit"], "card_status"),
    (frozenset(TOOL_NAMES), R["figures_of_card"], "card_status"),
    (frozenset(("report_card", "replace_card")), R["refused"], "card_status"),
    (LOOK_UPS | {"account_details"}, R["misused"], "knowledge"),
    (_KNOWLEDGE, R["refunds"], "transactions"),
    (LOOK_UPS | {"human_agent"}, R["provider"], "standing_orders"),
    (_KNOWLEDGE, R["freeze"], "freeze_card"),
    (LOOK_UPS | {"transfer"}, R["cancel_transfer"], "cancel_transfer"),
    (LOOK_UPS, R["foreign_cash"], "knowledge"),
    (LOOK_UPS | {"report_card"}, patterns("figures")["summary"], "spending"),
    (LOOK_UPS, P["than_then"], "spending"),
    (LOOK_UPS - _KNOWLEDGE, R["coming"], "standing_orders"),
    (LOOK_UPS, R["how_to"], ""),
    (LOOK_UPS, CHOSEN["transactions"], "transactions"),
    (LOOK_UPS, P["shares_in"], "transactions"),
    (LOOK_UPS, R["bill"], "standing_orders"),
    (_KNOWLEDGE, R["transfer"], "transfer"),
    (LOOK_UPS, R["dispute"], "knowledge"),
    (LOOK_UPS, R["standing_orders"], "standing_orders"),
    (LOOK_UPS, R["account_details"], "account_details"),
)
"""Tools that the head found, words against it, and the tool that the words choose; none keeps what was found."""


def of_before(message: str, earlier: str) -> str:
    """Return the tool of a message that only asks for the state of what the message before it names."""
    if R["works"].search(message) and R["card"].search(earlier):
        return "card_status"
    return "standing_orders" if R["have_already"].fullmatch(message) and R["standing_orders"].search(earlier) else ""


def routed(tool: str, message: str, earlier: str = "") -> str:
    """Return the tool after the closed lists of words.

    A message that asks neither for a sum nor for a list asks as the one before it.
    """
    if R["how_much"].fullmatch(message):
        return "standing_orders" if earlier and routed("spending", earlier) == "standing_orders" else "spending"
    if tool == "knowledge" and P["stolen"].search(message) and R["card_order"].match(earlier):
        return "report_card"
    for tools, words, chosen in _ROUTES:
        if tool in tools and words.search(message):
            return chosen or tool
    if tool not in LOOK_UPS:
        return tool
    if R["balance"].search(message) and not R["moved"].search(message):
        return "balance"
    if tool == "knowledge" or (tool == "standing_orders" and not R["past"].search(message)):
        return tool
    earned = brings_in(message) and not CHOSEN["balance"].search(message)
    if tool == "balance" and not earned and not R["moved"].search(message):
        return tool
    if any(R[name].search(message) for name in ("bounded", "has_come", "last_time")):
        return "transactions"  # a sum cannot leave out payments by their amount, nor say when one was
    if P["less_refunds"].search(message):
        return "spending"  # a list does not take them off
    sums, lists = R["spending"].search(message), R["transactions"].search(message)
    if not sums and not lists:
        sums, lists = R["spending"].search(earlier), R["transactions"].search(earlier)
    if bool(sums) == bool(lists) and tool in ("spending", "transactions"):
        return tool
    return "transactions" if lists else "spending"
