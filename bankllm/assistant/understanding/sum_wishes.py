"""What a message asks of payments beyond a sum or a list: an average, sums by name, or all but a part.

The arguments are no part of the tools' schemas, so that no model proposes them: closed lists of words give them.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from bankllm.assistant.bank.tools import Call, copied_arguments
from bankllm.assistant.followups import stands_alone
from bankllm.assistant.understanding import WORDS, patterns

P = patterns("figures")
UNITS = {name: re.compile(rf"\b(?:{words})", re.IGNORECASE) for name, words in WORDS["units"].items()}
BOUND = patterns("unused")["bound"]
PLACES = "|".join(WORDS["places_abroad"].values())
_PLACE = re.compile(rf"\b(?:in |to |from )?(?P<words>{PLACES})\b(?:(?: ?/ ?|,? and |, )(?:{PLACES})\b)*", re.IGNORECASE)
SUMS = frozenset(("spending", "transactions"))
WISHES = frozenset(("per", "by", "without", "foreign"))
SUMMED = frozenset(("per", "by"))
"""Wishes that are about a sum."""
NEAR = 25
"""Characters after "average" among which the unit stands: "average grocery bill"."""
LISTED = frozenset(("order", "limit"))


class Wish(NamedTuple):
    plain: str
    """The message without the words of the wish, or the message if no other word is left."""
    asked: Call
    """`per`: the unit of an average. `by`: `month`, or `merchant`, `shop` or `category`, with `order` and `limit`.
    `without`: words for what a sum or list leaves out. `foreign`: a currency, the place of a trip where it is paid, or
    `abroad`."""


def wish(message: str) -> Wish:
    """Return what the message asks beyond a sum or a list."""
    asked: dict[str, str] = {}
    message = P["without_small"].sub(r"over \g<small>", P["without_large"].sub(r"under \g<large>", message))
    message = P["foreign_payments"].sub("payments abroad", with_exclusion_last(message))
    rest = message
    if left_out := P["without"].search(message):
        asked["without"] = left_out["words"].strip(" ,") or left_out[0]
        rest = f"{message[: left_out.start()]} {message[left_out.end() :]}"
    trip = None if P["no_trip"].search(rest) else P["trip"].search(rest) and _PLACE.search(rest)
    if abroad := trip or P["in_currency"].search(rest):
        asked["foreign"] = abroad["words"]
        rest = f"{rest[: abroad.start()]} {rest[abroad.end() :]}"
        rest = P["trip"].sub(" ", " ".join(rest.split())) if trip else rest
    elif anywhere := None if P["no_trip"].search(rest) else P["abroad"].search(rest):
        asked["foreign"] = anywhere["words"]
        rest = f"{rest[: anywhere.start('words')]} {rest[anywhere.end('words') :]}"
    if by := _by(rest):
        return Wish(rest, asked | by)
    rate, average = P["rate"].search(rest), None if P["no_average"].search(rest) else P["average"].search(rest)
    often = P["often"].search(rest) and not BOUND.search(rest)  # a sum cannot leave out payments by their amount
    if average or often or (rate and P["asks_rate"].search(rest) and not P["no_rate"].search(rest)):
        near = rate[0] if rate else rest[average.start() : average.end() + NEAR] if average else ""
        asked["per"] = next((unit for unit, words in UNITS.items() if words.search(near)), "month")
        rest = P["average"].sub(" ", P["rate"].sub(" ", rest))
    plain = " ".join(rest.split()) if asked else message
    return Wish(plain if re.search(r"\w{2}", plain) else message, asked)


def with_exclusion_last(message: str) -> str:
    """Return the message with "leave the joint out" and "take out the joint" as "without the joint"."""
    message = P["takes_out"].sub("without ", message)
    return P["without_after"].sub(lambda found: f" without {found['words'] or found['left']}", message)


def _by(message: str) -> dict[str, str]:
    found = next((by for by in ("month", "category", "shop", "merchant") if P[f"by_{by}"].search(message)), "")
    found = found or ("category" if P["summary"].search(message) else "")
    if not found or P["one_payment"].search(message):
        return {}
    number, least = P["number"].search(message), P["least"].search(message)
    order = "smallest" if least else "largest" if P["which_month"].search(message) else ""
    more = {"order": order, "limit": number[1] if number else ""}
    return {"by": found} | {name: value for name, value in more.items() if value}


def with_wish(calls: Sequence[Call], messages: Sequence[str]) -> list[Call]:
    """Return the calls with what the last message asks of them; a fragment asks the same as the message before it.

    No call gets what the message asks of several. `understanding.beyond` refuses it.
    """
    plain, own = wish(messages[-1])
    asked = own
    for place in range(len(messages) - 1, 0, -1):
        if asked or stands_alone(messages[place]):
            break
        asked = wish(messages[place - 1]).asked
    about = [call for call in calls if call["tool"] in SUMS]
    if not own and any(call["tool"] != "spending" for call in about):
        asked = {name: value for name, value in asked.items() if name == "without"}
    if not own and any(words.lower() == asked.get("without", "").lower() for call in about for words in call.values()):
        asked = {}  # what was left out is asked for
    if not asked or not about or (len(about) > 1 and not asked.keys() <= {"per", "foreign"}):
        return list(calls)
    return [_with(call, asked, messages[-1], plain) if call in about else call for call in calls]


def _with(call: Call, asked: Call, message: str, plain: str) -> Call:
    """Return the call with the wish, and without arguments that are read from the words of the wish."""
    taken = {name for name in copied_arguments(call["tool"]) & call.keys() if call[name] not in plain}
    taken = {name for name in taken if call[name] in message} | (LISTED if asked.keys() & SUMMED else set())
    kept = {name: words for name, words in call.items() if name not in taken}
    return {**kept, **({"tool": "spending"} if asked.keys() & SUMMED else {}), **asked}
