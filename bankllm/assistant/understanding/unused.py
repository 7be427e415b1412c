"""Find words of a message that restrict what it asks for, and that no call used.

A figure without them would answer another question. Days, counts, bounds, exclusions, accounts, listed categories and
the customer's own names restrict. The words of a story or of a greeting do not: a sentence counts if it asks something,
or if a call copied a word of more than three letters from it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date

from bankllm.assistant.bank.tools import Call
from bankllm.assistant.facts import Question, ReadyCall
from bankllm.assistant.followups import is_follow_up
from bankllm.assistant.understanding import WORDS, patterns
from bankllm.assistant.understanding.customer import CustomerView, accounts_named
from bankllm.assistant.understanding.names import fitting, plain
from bankllm.assistant.understanding.periods import period
from bankllm.assistant.understanding.readers import quoted
from bankllm.assistant.understanding.sum_wishes import WISHES, wish
from bankllm.errors import UsageError

FIGURES = frozenset(("balance", "spending", "transactions"))
"""Tools whose figures an unused restriction changes."""
WHOLE = frozenset(("account_id", "date_from", "date_to", "direction"))
"""Arguments with which a list still has all payments of a period."""
FEW = 5
"""Words of a follow-up that may only name other days."""
P = patterns("unused")
REPLY = (
    "I am not sure what you mean by {}, so I give no figure. Which payments do you mean? Please name the merchant, "
    "category, account or days."
)
_WORD = re.compile(r"\w+")
_CATEGORY = re.compile("|".join(rf"\b(?:{name}|{words})\b" for name, words in WORDS["categories"].items()), re.I)


def without_unused(
    message: str, calls: Sequence[Call], ready: Sequence[ReadyCall | Question], customer: CustomerView, today: date
) -> list[ReadyCall | Question]:
    """Return what is ready; a question in place of all figures if `calls` did not use a restriction of the message."""
    figures = [one for one in ready if isinstance(one, ReadyCall) and one.tool in FIGURES and not one.unread]
    dated = any(one.tool == "standing_orders" for one in ready) and all(one.tool == "balance" for one in figures)
    words = next(_unused(message, calls, figures, customer, today), "") if figures and not dated else ""
    if not words:
        return list(ready)
    asked = replace(figures[0], unread=(REPLY.format(quoted(words.strip())),))
    return [asked if one is figures[0] else one for one in ready if one not in figures[1:]]


def _unused(
    message: str, calls: Sequence[Call], figures: Sequence[ReadyCall], customer: CustomerView, today: date
) -> Iterator[str]:
    used = _tokens(" ".join(words for call in calls for name, words in call.items() if name != "tool"))
    if any(call.keys() & WISHES for call in calls):
        used |= _tokens(message) - _tokens(wish(message).plain)
    given = {name for one in figures for name in one.arguments}
    lists = any(one.tool == "transactions" for one in figures)
    follows = is_follow_up(message) and len(message.split()) <= FEW  # "and the day before" asks as what came before
    if lists and given <= WHOLE and not (follows or P["whole"].search(message)):
        yield message
    copied = {word for word in used if len(word) > 3}
    merchants = {one.arguments["merchant"] for one in figures if "merchant" in one.arguments}
    own = (*customer.names, *customer.categories)
    sentences = P["sentence"].split(message)
    for sentence in sentences:
        asks = len(sentences) == 1 or P["asks"].search(sentence)
        if not asks and not copied & _tokens(sentence):
            continue
        restricting = [match for name in ("count", "days", "bound") for match in P[name].finditer(sentence)]
        for match in restricting:
            bound = match.re is P["bound"] and not lists  # "have I spent over £200" asks for the sum
            known = bound or _tokens(match["value"]) <= used or _corrected(sentence, match)
            if not (known or (match.re is P["days"] and _is_around(match, figures, today))):
                yield match[0]
        left_out = all(one.tool == "balance" and "account_id" in one.arguments for one in figures)  # the other accounts
        if not (left_out or given & {"without", "minimum_minor", "maximum_minor"}):
            yield from (match[0] for match in P["without"].finditer(sentence) if not _tokens(match[0]) <= used)
            for match in P["not"].finditer(sentence):
                two = match["value"] + (match["next"] or "")
                found = set(fitting(two, own, partial=False, typos=False) or fitting(match["value"], own, typos=False))
                if found and (not merchants or merchants & found):  # Tesco is not Tesco Express
                    yield match[0]
        if "account_id" not in given and any(one.tool != "balance" for one in figures):
            named = P["account"].finditer(sentence)
            yield from (match[0] for match in named if accounts_named(match["value"], customer.accounts))
        for match in _CATEGORY.finditer(sentence) if asks else ():
            before, after = sentence[: match.start()], sentence[match.end() :]
            listed = P["before_listed"].search(before) or P["after_listed"].match(after)
            if merchants and P["at_shop"].match(after):
                continue  # "the coffee at Florian" says what one pays there for
            of_name = _WORD.match(after.strip().lower())
            is_part = of_name and any(of_name[0] in plain(name).split() for name in merchants)  # the supermarket Tesco
            if listed and not is_part and not _is_used(match[0], used) and not _corrected(sentence, match):
                yield match[0]
    understood = used | _tokens(" ".join(map(str, merchants)))
    yield from (match[0] for match in P["numbered"].finditer(message) if not _tokens(match[0]) <= understood)
    if not merchants and (who := P["who"].search(message)):
        yield who[0]
    text = f" {plain(message)} "
    meant = {value for one in figures for value in one.arguments.values() if isinstance(value, str)}
    for name in customer.names if not P["correction"].search(message) else ():
        is_said = f" {plain(name)} " in text and f" not {plain(name)} " not in text
        if is_said and name not in meant and not _tokens(plain(name)) <= used:
            yield name


def _is_around(match: re.Match[str], figures: Sequence[ReadyCall], today: date) -> bool:
    """Whether the days of all figures are a part of a period, which a story names: "last year … in December 2025".

    A holiday may also be one of the days, or come after them: "the run-up to Thanksgiving, 9 to 25 November".
    """
    days = [(one.arguments.get("date_from", ""), one.arguments.get("date_to", "")) for one in figures]
    try:
        named = period(match["value"], today)
    except UsageError:
        return False
    if not named or not named.date_from or not all(first and last for first, last in days):
        return False
    begin, end = named.date_from.isoformat(), named.date_to.isoformat()
    if P["wide"].fullmatch(match["value"]):
        return all(begin <= first and last <= end for first, last in days)
    holiday = P["holiday"].fullmatch(match["value"])
    ahead = P["run_up"].search(match.string[: match.start()])
    return bool(holiday and (ahead or any(first <= begin <= last for first, last in days)))


def _corrected(sentence: str, match: re.Match[str]) -> bool:
    """Whether the customer takes back what was matched."""
    return bool(P["correction"].search(sentence, match.end()) or P["refused"].search(sentence[: match.start()]))


def _is_used(words: str, used: set[str]) -> bool:
    """Whether a call has one of the words, also as a part: "pet" in "Pets at Home"."""
    return any(one.startswith(word.rstrip("s")) for word in _tokens(words) for one in used)


def _tokens(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
