"""Read a customer's answer to the question that was asked last."""

from collections.abc import Sequence
from datetime import date

from bankllm.assistant.bank.tools import Call
from bankllm.assistant.facts import Question
from bankllm.assistant.understanding import orders, patterns
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.names import fitting, plain
from bankllm.assistant.understanding.readers import Ask, P, Unread
from bankllm.assistant.understanding.resolve import read

PLACES, AMOUNT = patterns("places"), patterns("restated")["amount"]
MORE = {"transfer": ("amount", "date"), "set_limit": ("amount",)}
"""Tool → arguments that an answer may name beside the one that was asked for."""


def answered(question: Question, message: str, today: date) -> Call | None:
    """Return the question's call with its slot filled from the customer's next message; None if it is no answer.

    What the message says beyond the answer must be an amount, a day or an account of the same order.
    """
    if question.tool == "transfer" and any(pattern.search(message) for pattern in orders.IMPOSSIBLE.values()):
        return None
    money = _money(question, message) if question.slot == "to" and "amount" not in question.call else None
    if money and (call := _filled(question, message.replace(money, " "), today)):
        return {**call, "amount": money}
    if call := _filled(question, message, today):
        return call
    first, *more = P["part"].split(message.strip())
    call = _filled(question, first, today) if more else None
    if not more and question.slot == "amount" and (to := P["to_whom"].fullmatch(message.strip())):
        call = {"tool": question.tool, **question.call, "to": to[1]} if question.tool == "transfer" else None
    for words in more:
        if call and question.tool == "transfer" and (source := P["from_account"].fullmatch(words.strip())):
            call = {**call, "from": source[1]}
            continue
        asked = [Question(question.tool, slot, "", call=call or {}) for slot in MORE.get(question.tool, ())]
        call = next(filter(None, (_filled(one, words, today) for one in asked)), None) if call else None
    return call


def _money(question: Question, message: str) -> str | None:
    """Return the only amount of an answer that names no more than a payee and a day: "45 quid to Baker"."""
    found = [one["value"].strip(" ,") for one in AMOUNT.finditer(message)]
    found = [words for words in found if not any(option.endswith(words) for option in question.options)]
    if len(found) != 1 or orders.P["counted"].match(message.partition(found[0])[2].strip()):
        return None
    named = set(plain(" ".join(question.options)).split())
    rest = plain(P["beside_money"].sub(" ", message.replace(found[0], " "))).split()
    return found[0] if named.issuperset(rest) else None


def _filled(question: Question, message: str, today: date) -> Call | None:
    words = P["around_answer"].sub("", message.strip())
    if question.options:
        place = next((place for place, pattern in enumerate(PLACES.values()) if pattern.fullmatch(words)), None)
        found = question.options[place : place + 1] if place is not None else fitting(words, question.options)
        if len(question.options) == 1 and P["yes"].fullmatch(words):
            found = question.options
        if (but := P["not_this"].search(words)) and (others := fitting(but[1], question.options)):
            found = [option for option in question.options if option not in others]
            return {**question.call, question.slot: found[0]} if len(found) == 1 else None
        found = found or fitting(words.removesuffix(" one"), question.options)
        other = P["another_detail"].search(words) or P["not_this"].search(words)
        found = found or ([] if other else told_apart(words, question.options))
        found = found or [words for _ in P["several"].findall(words)]
        return {**question.call, question.slot: found[0] if len(found) == 1 else words} if found else None
    call = {"tool": question.tool, **question.call, question.slot: words}
    try:
        read(call, question.slot, CustomerView(), today)
    except Ask as ask:
        return call if ask.wrong else None  # what is readable and wrong is said in the next question
    except Unread:
        return None
    return call


def told_apart(words: str, options: Sequence[str]) -> list[str]:
    """Return the option of which the words have what no other one has, beside more words: "Osei, from work"."""
    said, parts = set(plain(words).split()), [set(plain(option).split()) for option in options]
    found = [
        option
        for place, option in enumerate(options)
        if said & (parts[place].difference(*parts[:place], *parts[place + 1 :]) - {"ending"})
    ]
    return found if len(found) == 1 else []
