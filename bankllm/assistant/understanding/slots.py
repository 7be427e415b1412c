"""Find the arguments of a tool in a message by rules. Every value is copied, as a language model copies it."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import pairwise

from bankllm.assistant.bank.tools import MAX_CALLS, copied_arguments
from bankllm.assistant.understanding import amounts, patterns
from bankllm.assistant.understanding.spoken_names import SpokenNames
from bankllm.assistant.understanding.spoken_periods import days_in, periods_in, unread_period
from bankllm.assistant.understanding.spoken_text import Span, SpokenText, apart

P = patterns("patterns")
ARGUMENTS = patterns("arguments")
ORDERS = patterns("orders")
PAYDAY = patterns("resolve")["since_payday"]


class Slots:
    def __init__(self, message: str, ordinary: Mapping[str, int], today: date, names: Sequence[str] = ()) -> None:
        """`ordinary` has words that are no names, with their rank by frequency; `names` are the customer's own."""
        self.text, self.ordinary, self.today = SpokenText(message), ordinary, today
        self.names = SpokenNames(self.text, ordinary, names)
        self.context: list[str] = []
        """Periods that the message names and does not ask about, as `periods` finds them."""

    def read(self, tool: str) -> dict[str, list[str]]:
        """Return the arguments that the message names; several values of one if it asks about several."""
        message, text = self.text.message, self.text
        if tool == "report_card":
            return {"kind": [kind for kind in ("stolen", "lost") if P[kind].search(message)][:1]}
        if tool == "knowledge":
            return {"question": [_question(message)]}
        if tool == "human_agent":
            return {"reason": P["reason"].findall(message)[:1]}
        readers: dict[str, Callable[[], list[str]]] = {
            "reference": lambda: self._first("reference"),
            "from": lambda: self._first("from"),
            "period": self.periods,
            "date": lambda: text.take(days_in(text, self.today, future=tool == "transfer")),
            "limit": lambda: text.take(
                [span for span in text.found(ARGUMENTS["limit"]) if not (self._is_name(span) or text.is_money(span))][
                    :1
                ]
            ),
            "order": lambda: [
                order for order, pattern in ORDERS.items() if re.search(rf"\b(?:{pattern.pattern})", text.rest, re.I)
            ][:1],
            "minimum": lambda: self._bound("minimum"),
            "maximum": lambda: self._bound("maximum"),
            "exact": lambda: text.take([match.span() for match in P["exact"].finditer(text.rest)][:1]),
            "amount": lambda: text.take(text.meant(self._amounts())),
            "account": lambda: text.take(self._accounts(tool)),
            "card": lambda: self._first("card"),
            "to": lambda: (
                self._first("own_account") or text.take(self.names.named("payee", 2) or self.names.after("payee_after"))
            ),
        }
        wanted = copied_arguments(tool) | ({"order", "exact"} if tool == "transactions" else set())
        found = {argument: read() for argument, read in readers.items() if argument in wanted}
        if found.get("minimum") and f"exactly {found['minimum'][0]}" in message:
            found["maximum"] = found["minimum"]
        if (exact := found.pop("exact", [])) and not (found["minimum"] or found["maximum"]):
            found["minimum"] = found["maximum"] = exact
        if tool == "spending":
            saves = P["put_away"].search(message) and found["account"]
            inward = (brings_in(message) or saves) and not P["less_refunds"].search(message)
            found["direction"] = ["in"] if inward else []
        if "merchant" in wanted:
            found |= self._subject()
            found["period"] = found["period"] or unread_period(text, self.ordinary)
        return found

    def _subject(self) -> dict[str, list[str]]:
        """Return the merchants or categories that payments are asked of."""
        text, names = self.text, self.names
        categories = names.parts(names.categories())
        certain = categories and not all(P["weak_category"].fullmatch(text[span]) for span in categories)
        named = names.named("merchant", 4 if certain else 2 if categories else 1)
        if merchants := text.take(names.with_categories(named, categories)):
            return {"merchant": merchants}
        if category := text.take(categories or names.after("category_after")):
            return {"merchant": [], "category": category}
        return {"merchant": text.take(names.after("merchant_after")), "category": []}

    def regular(self) -> dict[str, list[str]]:
        """Return the names and categories in the order of the message, and the account that money goes to (`to`)."""
        self.periods()
        to = self._first("own_account") or [match[0] for match in [P["saves"].search(self.text.rest)] if match]
        categories = self.names.categories()
        own = self.names.with_listed(self.names.own("merchant"))
        inside = apart(categories, own)
        return {"merchant": self.text.take(self.names.with_listed(sorted(own + inside))), "to": to}

    def periods(self) -> list[str]:
        asked, named = periods_in(self.text, self.today)
        self.context = [self.text[span] for span in named]
        self.text.take([span for span in named if " " in self.text[span]])  # "xmas" may be a part of a name
        return self.text.take(asked)

    def _first(self, argument: str) -> list[str]:
        return self.text.take(self.text.found(ARGUMENTS[argument])[:1])

    def _accounts(self, tool: str) -> list[Span]:
        """Find accounts; the ones of a sum or list only where they stand beside each other."""
        found = self.text.found(ARGUMENTS["account"])[:MAX_CALLS]
        apart = (
            number
            for number, pair in enumerate(pairwise(found), start=1)
            if not P["accounts"].fullmatch(self.text.between(*pair))
        )
        return found if tool == "balance" else found[: next(apart, len(found))]

    def _is_name(self, span: Span) -> bool:
        return self.text[span][0].isupper() and self.names.is_own(span, partial=False)

    def _amounts(self) -> list[Span]:
        """Find amounts, but no number that is part of a name: "pay five a side 8"."""
        names = [span for span in self.names.whole("payee") if " " in self.text[span]]
        found = [*self.text.runs(amounts.amount, _starts_amount)]
        found = [one for one in found if not P["counted"].match(self.text.rest[one[1] :])]  # "two steps"
        return [one for one in found if not any(start <= one[0] < end for start, end in names)]

    def _bound(self, which: str) -> list[str]:
        found = self.text.runs(amounts.amount, _starts_amount)
        return self.text.take([span for span in found if P[which].search(self.text.rest[: span[0]])][:1])


def _question(message: str) -> str:
    sentences = re.split(r"(?<=[.?!])\s+", message)
    asked = [sentence for sentence in sentences if sentence.endswith("?")]
    text = asked[0] if len(asked) == 1 else message
    lead = P["lead"].match(text)
    return P["trail"].sub("", text[lead.end() if lead else 0 :]) or message


def brings_in(message: str) -> re.Match[str] | None:
    """Find words of money that came in, and not of the day since when: "since my wages came in"."""
    return P["income"].search(PAYDAY.sub(" ", message))


def _starts_amount(token: re.Match[str]) -> object:
    return P["amount_start"].match(token.string, token.start())
