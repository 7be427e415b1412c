"""Propose tool calls without a language model: a linear head chooses the tools, rules find their arguments.

    python benchmarks/understanding.py

measures the calls on TellerChat.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np

from bankllm.assistant.bank.tools import MAX_CALLS, MAX_EARLIER, TOOL_NAMES, Call
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.slots import P, Slots
from bankllm.assistant.understanding.tool_head import Embed, ToolHead

SECOND = 0.5
"""Probability from which a tool is called beside the likeliest one."""
R = patterns("routes")
CLAUSE = 0.9
"""Probability of a tool in one clause from which the clauses are read one by one."""
MAX_CLAUSES = 12
CLAUSE_WHOLE = 0.003
"""Probability of that tool in the whole message, at least."""
REPEATED = {
    "balance": ("account", "date"),
    "spending": ("merchant", "category", "period", "direction"),
    "transactions": ("merchant", "category", "period"),
    "transfer": ("to",),
}
"""Tool → arguments of which several values make several calls: two shops, two months, two payees."""

LOOK_UPS = frozenset(("balance", "spending", "transactions", "standing_orders", "knowledge"))
"""Tools among which words decide against the head."""
EXCLUSIVE = (frozenset(("merchant", "category")), frozenset(("minimum", "maximum")))
"""Arguments of which one from the last message replaces all from earlier ones."""
COMPLETE = [frozenset((subject, more)) for subject in ("merchant", "category") for more in ("period", "limit")]
"""Arguments of a message that needs nothing from earlier ones."""
MOVES = frozenset(("transfer", "set_limit"))
"""Tools that are not proposed from earlier messages only: the last one must name an argument."""


def propose(
    messages: Sequence[str], head: ToolHead, embed: Embed, today: date, names: Sequence[str] = ()
) -> list[Call]:
    """Return the calls that the last message asks for; empty if it asks for nothing that a tool does.

    `embed` is the encoder that the head was trained on. `names` are the customer's own merchants and payees.
    """
    messages = messages[-1 - MAX_EARLIER :]
    if P["nothing"].fullmatch(messages[-1]):
        return []
    whole = head.probabilities([messages], embed)[0]
    if whole.argmax() == len(TOOL_NAMES):
        pays = read("transfer", messages[-1:], head.ordinary, today, names) if R["pays"].match(messages[-1]) else []
        return [call for call in pays if {"amount", "to"} <= call.keys()]
    likely = [int(tool) for tool in (-whole[:-1]).argsort() if tool == whole.argmax() or whole[tool] > SECOND]
    wishes = _by_clause(messages, whole, head, embed) or [(tool, messages[-1]) for tool in likely]
    calls = [
        call
        for tool, text in wishes
        for call in read(
            routed(TOOL_NAMES[tool], text, " ".join(messages[-2:-1])),
            [*messages[:-1], text],
            head.ordinary,
            today,
            names,
        )
    ]
    tools = {call["tool"] for call in calls}
    if tools and tools < LOOK_UPS and P["details_too"].search(messages[-1]) and not re.search(r"\bhow\b", messages[-1]):
        unasked = {"knowledge"} if re.search(r"\bbalance|how much", messages[-1], re.I) else {"knowledge", "balance"}
        calls = [*(call for call in calls if call["tool"] not in unasked), {"tool": "account_details"}]
    return calls[:MAX_CALLS]


def _by_clause(
    messages: Sequence[str], whole: np.ndarray, head: ToolHead, embed: Embed
) -> list[tuple[int, str]] | None:
    """Return several tools with the part of the message that asks for each; None if the message has one wish."""
    message = messages[-1]
    whole_ranges = P["between"].sub("\\1\0and ", message)  # "between the 3rd and the 9th" is one wish
    parts = [part.replace("\0", " ") for part in P["clause"].split(whole_ranges)]
    clauses = [part for part in parts if len(part.split()) > 1]
    possible = {TOOL_NAMES[tool] for tool in np.flatnonzero(whole[:-1] > CLAUSE_WHOLE)}
    if not 1 < len(clauses) <= MAX_CLAUSES or not (
        len(possible) > 1 or ("transfer" in possible and re.search(r"\d", message))
    ):
        return None
    said: list[tuple[int, str]] = []
    rows = head.probabilities([[*messages[:-1], clause] for clause in clauses], embed)
    for clause, row in zip(clauses, rows, strict=True):
        tool = int(row.argmax())
        if tool == len(TOOL_NAMES) or row[tool] <= CLAUSE or whole[tool] <= CLAUSE_WHOLE:
            continue
        before = next((number for number, wish in enumerate(said) if wish[0] == tool), None)
        another = TOOL_NAMES[tool] == "transfer" and re.search(r"\d", clause) and not P["correction"].search(clause)
        if before is None or another:
            said.append((tool, clause))
        else:
            begin, end = message.find(said[before][1]), message.find(clause) + len(clause)
            said[before] = tool, message[begin:end]
    return said if len(said) > 1 else None


def routed(tool: str, message: str, earlier: str = "") -> str:
    """Return the tool after closed lists of words: what repeats or is to come, what is there, a sum, a list.

    A message that asks neither for a sum nor for a list asks as the one before it.
    """
    if tool in ("set_limit", "knowledge") and R["card_limit"].search(message):
        return "card_status"
    if tool == "knowledge" and P["stolen"].search(message) and R["card_order"].match(earlier):
        return "report_card"
    if tool in LOOK_UPS | {"account_details"} and R["misused"].search(message):
        return "knowledge"
    if tool == "knowledge" and R["refunds"].search(message):
        return "transactions"
    if tool == "knowledge" and R["freeze"].match(message):
        return "freeze_card"
    if tool in LOOK_UPS and R["cancel_transfer"].search(message):
        return "cancel_transfer"
    if tool in LOOK_UPS - {"knowledge"} and R["coming"].search(message):
        return "standing_orders"
    if tool not in LOOK_UPS or R["how_to"].search(message):
        return tool
    if tool == "knowledge" and R["transfer"].search(message):
        return "transfer"
    if R["dispute"].search(message):
        return "knowledge"
    if tool == "knowledge" and R["card_status"].search(message):
        return "card_status"
    if named := next((one for one in ("standing_orders", "account_details") if R[one].search(message)), None):
        return named
    if R["balance"].search(message) and not R["moved"].search(message):
        return "balance"
    if tool == "knowledge" or (tool == "standing_orders" and not R["past"].search(message)):
        return tool
    if tool == "balance" and not R["moved"].search(message):
        return tool
    sums, lists = R["spending"].search(message), R["transactions"].search(message)
    if not sums and not lists:
        sums, lists = R["spending"].search(earlier), R["transactions"].search(earlier)
    if bool(sums) == bool(lists) and tool in ("spending", "transactions"):
        return tool
    return "transactions" if lists else "spending"


def read(
    tool: str, messages: Sequence[str], ordinary: Mapping[str, int], today: date, names: Sequence[str] = ()
) -> list[Call]:
    """Return the calls of one tool for the last message; what it lacks is taken from the earlier ones."""
    found: dict[str, list[str]] = {}
    for message in reversed(messages):
        if tool in MOVES and message != messages[-1] and P["dropped"].search(message):
            break
        values = {
            name: list(dict.fromkeys(values))
            for name, values in Slots(message, ordinary, today, names).read(tool).items()
            if values
        }
        if found and (tool in ("knowledge", "human_agent") or any(group <= found.keys() for group in COMPLETE)):
            break
        if tool == "balance" and message != messages[-1] and P["asks"].search(messages[-1]):
            values.pop("date", None)
        if values and not found and tool in MOVES and message != messages[-1]:
            return []
        for group in EXCLUSIVE:
            if group & found.keys():
                values = {name: value for name, value in values.items() if name not in group}
        found = values | found
    if tool == "spending" and P["in_and_out"].search(messages[-1]):
        found["direction"] = ["in", "out"]
    if tool == "spending" and len(found.get("period", ())) == 1 and (than := P["than"].search(messages[-1])):
        found["period"].insert(0, f"this {than[1]}")
    if tool in MOVES and len(found.get("amount", ())) > 1:
        del found["amount"]  # which amount belongs to whom is asked
    if tool == "report_card":
        found.setdefault("kind", ["lost"])
    several = [len(values) for name, values in found.items() if name in REPEATED.get(tool, ())]
    return [
        {"tool": tool} | {name: values[min(number, len(values) - 1)] for name, values in found.items()}
        for number in range(max(several, default=1))
    ]
