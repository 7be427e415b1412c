"""Propose tool calls without a language model: a linear head chooses the tools, rules find their arguments.

    python benchmarks/understanding.py

measures the calls on TellerChat.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain, product

import numpy as np

from bankllm.assistant.bank.tools import MAX_CALLS, MAX_EARLIER, TOOL_NAMES, Call
from bankllm.assistant.followups import asks, is_follow_up, stands_alone
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.clauses import by_clause, chosen_tool, clauses, order_inside
from bankllm.assistant.understanding.customer import CustomerView, accounts_named
from bankllm.assistant.understanding.inherited import anchored, inherited, until_now
from bankllm.assistant.understanding.names import fitting
from bankllm.assistant.understanding.routes import CHOSEN, LOOK_UPS, P, R, of_before, routed
from bankllm.assistant.understanding.slots import Slots
from bankllm.assistant.understanding.spoken_names import SHORT
from bankllm.assistant.understanding.sum_wishes import SUMMED, SUMS, wish, with_wish
from bankllm.assistant.understanding.sum_wishes import P as FIGURES
from bankllm.assistant.understanding.tool_head import Embed, ToolHead

SECOND = 0.5
"""Probability from which a tool is called beside the likeliest one."""
SURE = 0.75
"""Probability of an article from which the head is believed whatever the message names."""
EVERYTHING = patterns("orders_to_pay")["everything"]
SAME_ROW = patterns("shown")["same_row"]
REPEATED = {
    "balance": ("account", "date"),
    "spending": ("merchant", "category", "period", "direction", "account"),
    "transactions": ("merchant", "category", "period", "account"),
    "transfer": ("to",),
}
"""Tool → arguments of which several values make several calls: two shops, two months, two payees."""

MISTAKEN = frozenset(("", "knowledge", "small_talk", "balance", "account_details", "card_status", "transfer"))
"""What a message of few words is taken for, although it only names a merchant."""
MISLED = frozenset(("", "balance", "human_agent", "knowledge", "small_talk"))
"""What a message with an order in it is taken for, if other words stand before the order."""
UNUSED = patterns("unused")
LEFT = ("left_after", "left_once", "left_less")
"""Patterns of questions for what is left after a regular payment."""
EXCLUSIVE = (frozenset(("merchant", "category")), frozenset(("minimum", "maximum")))
"""Arguments of which one from the last message replaces all from earlier ones."""
COMPLETE = [frozenset((subject, more)) for subject in ("merchant", "category") for more in ("period", "limit")]
"""Arguments of a message that needs nothing from earlier ones."""
MOVES = frozenset(("transfer", "set_limit"))
"""Tools that are not proposed from earlier messages only: the last one must name an argument."""


@dataclass(frozen=True)
class Rules:
    """What the rules read on one day for one customer."""

    head: ToolHead
    embed: Embed
    """The encoder that the head was trained on."""
    today: date
    customer: CustomerView = field(default_factory=CustomerView)
    """Whose merchants and payees are looked for."""
    _found: dict[tuple[str, ...], np.ndarray] = field(default_factory=dict)
    """Messages → probabilities."""

    def propose(self, messages: Sequence[str], *, first: bool = True) -> list[Call]:
        """Return the calls that the last message asks for; empty if it asks for nothing that a tool does.

        A message that is not the `first` one may answer a question, so the tool that the head finds is kept.
        """
        if P["nothing"].fullmatch(messages[-1]):
            return []
        said, asked, heard = messages, wish(messages[-1]).asked, _heard(messages)
        messages = [*messages[:-1], R["thanks"].sub("", messages[-1])]
        if P["cards"].fullmatch(messages[-1]):
            return [{"tool": "card_status"}]
        if back := R["pays_back"].fullmatch(messages[-1]):
            return [{"tool": "transfer", "to": back[1]}]
        after = next(filter(None, (R[name].search(messages[-1]) for name in LEFT)), None)
        if after and (due := self._slots(after["paid"]).regular()["merchant"]):
            return [{"tool": "balance"}, {"tool": "standing_orders", "merchant": due[0]}]
        averages = FIGURES["average"].search(messages[-1]) or FIGURES["often"].search(messages[-1])
        if not (asked.keys() - {"per"} or averages) and (regular := self._regular(messages)):
            rest = ((chosen_tool(one), one) for one in clauses(messages[-1]) if not R["monthly"].search(one))
            beside = [self.read(name, [one]) for name, one in rest if name in LOOK_UPS - {"standing_orders"}]
            return [*chain.from_iterable(beside), *regular]
        asking = said
        while asking[1:] and (self._only_days(asking[-1]) or (asking != said and SAME_ROW.fullmatch(asking[-1]))):
            asking = asking[:-1]
        whole = self.probabilities(asking)
        tool = [*TOOL_NAMES, ""][whole.argmax()]
        if tool in ("", "knowledge", "small_talk") and R["wants_person"].search(messages[-1]):
            return [{"tool": "human_agent"}]
        whole_balance = R["pays"].match(messages[-1]) and EVERYTHING.search(messages[-1])
        if whole_balance or (tool in ("", "knowledge") and R["pays"].match(messages[-1])):
            pays = self.read("transfer", messages[-1:])
            if pays := [call for call in pays if "to" in call and (whole_balance or "amount" in call)]:
                return pays
        if tool in MISLED and (order := order_inside(messages[-1])):
            payees = [payee.name for payee in self.customer.payees]
            pays = [call for call in self.read("transfer", [order]) if call.keys() >= {"amount", "to"}]
            own = len(pays) == 1 and accounts_named(pays[0]["to"], self.customer.accounts)
            if own or (len(pays) == 1 and fitting(pays[0]["to"], payees, typos=False)):
                return pays
        first = first and len(messages) == 1
        tool = "transactions" if tool == "transfer" and R["ever_paid"].search(messages[-1]) else tool
        if tool == "transfer" and first and not R["order"].search(messages[0]):
            pays = self.read("transfer", messages)
            ordered = any("amount" in call for call in pays) and not R["no_order"].search(messages[0])
            tool = tool if ordered else "transactions"  # transfers that were made
        if tool == "knowledge" and (second := self._own_figures(messages[-1], whole)):
            tool = second
        if tool == "cancel_transfer" and not any(R["cancels"].search(one) for one in messages[-2:]):
            tool = ""
        if (tool in LOOK_UPS or not tool) and messages[1:]:
            tool = of_before(messages[-1], messages[-2]) or tool
        summed = bool(asked.keys() & SUMMED) and self._is_of_payments(tool, heard)
        follows = bool(messages[1:] or self._slots(messages[-1]).periods())
        summed = summed or (tool in ("knowledge", "balance") and "by" in asked and follows)
        if summed:
            tool = "spending"
        elif tool in MISTAKEN and first and self._is_about(tool, messages):
            tool = "transactions"
        elif tool == "balance" and messages[1:]:
            tool = self._of_payments(asking[-1]) or tool
        if not tool and R["took"].match(messages[-1]) and self.names(messages[-1]):
            tool = "transactions"  # "did halifax take the mortgage"
        if not tool:
            return []
        messages = heard if tool in LOOK_UPS else messages  # an order is read as it was written
        others = (number for number in np.flatnonzero(whole[:-1] > SECOND) if number != whole.argmax())
        wishes = by_clause(messages[-1], tool, self._slots)
        wishes = wishes or [(messages, name) for name in (tool, *(TOOL_NAMES[number] for number in others))]
        calls = [
            call
            for texts, name in wishes
            for call in self.read(
                name if summed and name in SUMS else routed(name, texts[-1], " ".join(texts[-2:-1])), texts
            )
        ]
        return with_wish(self._with_subject(calls, messages[-1])[:MAX_CALLS], said)

    def _only_days(self, message: str) -> bool:
        """Whether a message only names other days for what was asked before: "and on bonfire night"."""
        slots = self._slots(message)
        return bool(slots.periods()) and R["only_days"].fullmatch(slots.text.rest) is not None

    def _regular(self, messages: Sequence[str]) -> list[Call]:
        """Return the calls about what is paid each month; empty if the last message asks nothing of that kind.

        A few words after such a question ask the same about another payment.
        """
        message, slots = messages[-1], self._slots(messages[-1])
        pays = R["pays_now"].search(message)
        monthly = [bool(R["monthly"].search(one) and not R["not_monthly"].search(one)) for one in messages[-2:]]
        if slots.periods() or R["how_to"].search(message) or R["pays"].match(message) or P["dated"].search(message):
            return []
        if R["order"].search(message) and not pays and self._slots(message).read("transfer")["amount"]:
            return []  # to send an amount every month is an order
        found = slots.regular()
        asked = R["whole_question"].fullmatch(slots.text.rest) or (
            len(monthly) == 1 and R["bill_only"].fullmatch(message)
        )
        whole = asked and found["merchant"] and not R["not_monthly"].search(message)
        follows = len(message.split()) <= SHORT and len(monthly) > 1 and monthly[0] and found["merchant"]
        if not (monthly[-1] or whole or follows or (found["merchant"] and pays)):
            return []
        if not found["merchant"] and R["standing_orders"].search(message):
            return [{"tool": "standing_orders"}]
        if found["to"] and R["own_money"].search(message):
            return [{"tool": "standing_orders", "to": found["to"][0]}]
        return [{"tool": "standing_orders", "merchant": name} for name in found["merchant"][:MAX_CALLS]]

    def _with_subject(self, calls: list[Call], message: str) -> list[Call]:
        """Give sums of which no clause names a merchant or category the only one that the message names."""
        if len(calls) < 2 or any(call["tool"] not in SUMS or call.keys() & {"merchant", "category"} for call in calls):
            return calls
        slots = self._slots(message)
        slots.periods()
        own, categories = slots.names.own("merchant"), slots.names.categories()
        name, found = ("merchant", own) if own else ("category", categories)
        words = {message[slice(*span)] for span in found}
        return [{**call, name: min(words)} for call in calls] if len(words) == 1 else calls

    def probabilities(self, messages: Sequence[str]) -> np.ndarray:
        """Return the head's probability of each tool, and of no tool."""
        heard = tuple(_heard(messages)[-1 - MAX_EARLIER :])
        if heard not in self._found:
            (found,) = self.head.probabilities([heard], self.embed)
            self._found[heard] = np.asarray(found)
        return self._found[heard]

    def _own_figures(self, message: str, whole: np.ndarray) -> str:
        """Return the second likely tool if it sums or lists what the customer names with days; else nothing."""
        charged = R["was_charged"].search(message)
        second = "spending" if charged else [*TOOL_NAMES, ""][whole.argsort()[-2]]
        sure = whole.max() > SURE and not charged
        if second not in SUMS or sure or R["how_to"].search(message) or not R["own"].search(message):
            return ""
        slots = self._slots(message)
        return second if slots.periods() and (slots.names.own("merchant") or slots.names.categories()) else ""

    def _is_of_payments(self, tool: str, messages: Sequence[str]) -> bool:
        """Whether an average or a ranking is about the customer's own payments, and not about the bank."""
        if tool in SUMS or (tool in MOVES and not asks(messages[-1])):
            return tool in SUMS
        slots = self._slots(messages[-1])
        named = slots.names.own("merchant") or (R["own"].search(messages[-1]) and slots.names.categories())
        return bool(named or (tool == "standing_orders" and slots.read("spending")["merchant"]))

    def _of_payments(self, message: str) -> str:
        """Return the tool of a follow-up about payments after a balance: "and what's gone out today", "and food"."""
        if R["balance"].search(message) or CHOSEN["balance"].search(message):
            return ""
        alone = [*TOOL_NAMES, ""][self.probabilities([message]).argmax()]
        named = is_follow_up(message) and not self._slots(message).read("balance")["account"] and self.names(message)
        return alone if alone in SUMS else "spending" if named else ""

    def _is_about(self, tool: str, messages: Sequence[str]) -> bool:
        """Whether a short message that orders and asks to explain nothing names a counterparty, or what is pending."""
        sentences = UNUSED["sentence"].split(messages[-1])
        asked = next((one for one in sentences if one.endswith("?")), sentences[-1])
        return any(self._names_payments(tool, one, messages) for one in dict.fromkeys((messages[-1], asked)))

    def _names_payments(self, tool: str, message: str, messages: Sequence[str]) -> bool:
        if R["explains"].search(message) or R["balance"].search(message):
            return False
        short, pending, slots = (
            len(message.split()) <= SHORT,
            CHOSEN["transactions"].search(message),
            self._slots(message),
        )
        if pending and (short or slots.names.own("merchant")):
            return True
        if not short and tool != "balance":
            return False
        ordered, days = any(R["order"].search(one) for one in messages), slots.periods()
        if tool == "transfer" and not R["bounded"].search(message) and not days:
            return False
        return not ordered and bool(slots.names.own("merchant") or (days and slots.names.categories()))

    def read(self, tool: str, messages: Sequence[str]) -> list[Call]:
        """Return the calls of one tool for the last message; what it lacks is taken from the earlier ones."""
        found: dict[str, list[str]] = {}
        spoken, context, outgoing = list[str](), list[str](), False
        """Periods of all messages, the oldest first; and whether a later message is about money out."""
        for message in reversed(messages):
            if tool in MOVES and message != messages[-1] and P["dropped"].search(message):
                break
            slots = self._slots(message)
            values = {name: list(dict.fromkeys(values)) for name, values in slots.read(tool).items() if values}
            context = slots.context if message == messages[-1] else context
            spoken = [*values.get("period", ()), *slots.context, *spoken]
            if message != messages[-1] and "account" in found and P["put_away"].search(messages[-1]):
                break  # what was put into an account is of no merchant
            if message != messages[-1]:
                values = inherited(tool, values, message, messages[-1])
            if found and (tool in ("knowledge", "human_agent") or any(group <= found.keys() for group in COMPLETE)):
                break
            if values and not found and tool in MOVES and message != messages[-1]:
                return []
            if outgoing:
                values.pop("direction", None)
            outgoing = outgoing or bool(P["outgoing"].search(message))
            for group in EXCLUSIVE:
                if group & found.keys():
                    values = {name: value for name, value in values.items() if name not in group}
            found = values | found
            if values and tool in SUMS and message != messages[-1] and stands_alone(message):
                break
        if tool == "spending" and P["in_and_out"].search(messages[-1]):
            found["direction"] = ["in", "out"]
        if tool == "spending" and len(found.get("period", ())) == 1 and (than := P["than"].search(messages[-1])):
            found["period"].insert(0, f"this {than[1]}")
        elif tool == "spending" and (than := P["than_last"].search(messages[-1])):
            found["period"] = [f"this {than[1]}", f"last {than[1]}"]
        elif tool == "spending" and len(found.get("period", ())) == 1 and P["than_then"].search(messages[-1]):
            found["period"] = [*until_now(found["period"][0], self.today), *found["period"]]
        if "period" in found:
            found["period"] = list(anchored(found["period"], spoken, context, self.today))
        if tool in MOVES and len(found.get("amount", ())) > 1:
            del found["amount"]  # which amount belongs to whom is asked
        if tool == "report_card":
            found.setdefault("kind", ["lost"])
        several = {name: values for name, values in found.items() if name in REPEATED.get(tool, ())}
        if tool in SUMS:  # two shops in two months are four sums
            one = {name: values[0] for name, values in found.items()}
            chosen = product(*several.values())
            return [{"tool": tool, **one, **dict(zip(several, each, strict=True))} for each in chosen]
        return [
            {"tool": tool} | {name: values[min(number, len(values) - 1)] for name, values in found.items()}
            for number in range(max(map(len, several.values()), default=1))
        ]

    def names(self, message: str) -> list[str]:
        """Return the words for the customer's own merchants, payees and categories, in the order of the message."""
        return self._slots(message).regular()["merchant"]

    def _slots(self, message: str) -> Slots:
        return Slots(message, self.head.ordinary, self.today, self.customer.names)


def _heard(messages: Sequence[str]) -> list[str]:
    """Return the messages that are read, without thanks and without what `sum_wishes` reads."""
    *earlier, last = (wish(message).plain for message in messages)
    return [*earlier, R["thanks"].sub("", last)]
