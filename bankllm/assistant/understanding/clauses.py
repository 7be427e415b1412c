"""Divide a message with several wishes: each clause has its tool, and the texts that its arguments are read from."""

from collections.abc import Callable

from bankllm.assistant.understanding.routes import CHOSEN, LOOK_UPS, P, R
from bankllm.assistant.understanding.slots import Slots
from bankllm.assistant.understanding.sum_wishes import SUMS

MAX_CLAUSES = 12
SENTENCE = P["sentence"]


def clauses(message: str) -> list[str]:
    whole_ranges = P["between"].sub("\\1\0and ", message)  # "between the 3rd and the 9th" is one wish
    return [part.replace("\0", " ") for part in P["clause"].split(whole_ranges)]


def chosen_tool(clause: str) -> str:
    """Return the tool that words of a clause choose, or nothing."""
    return next((name for name, words in CHOSEN.items() if words.search(clause)), "")


def order_inside(message: str) -> str:
    """Return the only clause of a message that orders a transfer; empty if the message asks or explains something."""
    if "?" in message or R["explains"].search(message):
        return ""
    parts = [one for sentence in SENTENCE.split(message) for one in clauses(sentence)]
    orders = [one for one in parts if CHOSEN["transfer"].search(one) and R["pays"].match(one)]
    others = any(chosen_tool(one) or R["balance"].search(one) or R["left"].search(one) for one in {*parts} - {*orders})
    return orders[0] if len(orders) == 1 and not others else ""


def by_clause(message: str, tool: str, read: Callable[[str], Slots]) -> list[tuple[list[str], str]]:
    """Return several tools, each with the texts to read; empty if the message has one wish.

    A clause has its own wish if closed lists of words choose its tool, or if it names a merchant or category and a
    period, or asks by a word of its own. What such a clause lacks is taken from the one before it.
    """
    parts = clauses(message)
    if not 1 < len(parts) <= MAX_CLAUSES:
        return []
    sums = tool if tool in SUMS else "spending"
    wishes: list[tuple[str, str, str]] = []
    """Tool, text, and what makes it a wish."""
    for clause in parts:
        slots, chosen = read(clause), chosen_tool(clause)
        days = bool(slots.periods())  # "August bank holiday" is no holiday that was paid
        named = not chosen and bool(slots.names.own("merchant") or slots.names.categories())
        name, text, kind = wishes[-1] if wishes else ("", "", "")
        refers, both = R["refers"].search(clause), message[message.find(text) : message.find(clause) + len(clause)]
        if chosen and wishes and kind != "chosen" and refers:
            wishes[-1] = chosen, both, "chosen"
        elif chosen:
            wishes.append((chosen, clause, "order" if chosen == "transfer" else "chosen"))
        elif kind == "chosen" and not named and refers:
            wishes[-1] = name, both, kind
        elif _is_wish(clause, days, named, bool(wishes)):
            wishes.append((sums, clause, "period"))
        elif wishes:
            wishes[-1] = name, both, kind
        elif named or R["transactions"].search(clause):
            wishes.append((sums, clause, "named"))
    chosen_tools = {name for name, _, kind in wishes if kind == "chosen"}
    if not chosen_tools & LOOK_UPS:
        wishes = [one for one in wishes if one[2] != "named" or (chosen_tools and R["asks"].match(one[1]))]
    if len(wishes) == 1 and wishes[0][2] == "order" and tool in LOOK_UPS:
        (_, text, _), order = wishes[0], next(one for one in parts if CHOSEN["transfer"].search(one))
        return [([order], "transfer"), ([text.replace(order, "", 1).strip(" ,") or text], tool)]
    if sum(kind != "chosen" for _, _, kind in wishes) + len(chosen_tools) < 2:
        return []
    earlier = [[text] if name in SUMS and kind != "chosen" else [] for name, text, kind in wishes]
    return [([*before, text], name) for before, (name, text, _) in zip([[], *earlier], wishes, strict=False)]


def _is_wish(clause: str, days: bool, named: bool, follows: bool) -> bool:
    """Whether a clause asks for payments that are not those of the clause before it."""
    asks, lists = follows and bool(R["asks"].match(clause)), bool(R["transactions"].search(clause))
    own = days or (follows and lists)
    return (named and (own or asks)) or (own and (asks or lists))
