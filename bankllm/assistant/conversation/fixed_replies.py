"""Steps that answer without the calls of rules or a model: fixed replies, and remarks that ask nothing."""

from bankllm.assistant.bank import statement
from bankllm.assistant.care.complaints import complaint_reply
from bankllm.assistant.care.languages import language_reply
from bankllm.assistant.conversation.reading import Reading, is_remark
from bankllm.assistant.facts import Facts, ReadyCall
from bankllm.assistant.followups import asks
from bankllm.assistant.orders.waiting import Item
from bankllm.assistant.tools.guidance import HEARD
from bankllm.assistant.understanding.beyond import still_refused
from bankllm.assistant.understanding.names import fitting
from bankllm.assistant.understanding.routes import R
from bankllm.assistant.understanding.slots import P, Slots

Items = list[Item]
MORE_THAN_WHAT_DAY = 3
"""Words of the shortest question for today's date after a list: "what day" asks for that of the payment."""
ORDERS = R["order"]
PRONOUNS = ("him", "her", "them")


def fixed(reading: Reading) -> Items | None:
    """Another language, a complaint, the day, and the lists of cards and payees."""
    message, day = reading.message, reading.today
    text = language_reply(message, reading.parts.head.ordinary, reading.customer.names)
    if text and not P["polite"].fullmatch(message):
        return [Facts(text)]
    if complaint := complaint_reply(message):
        return [complaint]
    of_shown_day = reading.turns and reading.turns[0].calls and len(message.split()) < MORE_THAN_WHAT_DAY
    if P["today"].fullmatch(message) and not of_shown_day:
        return [Facts(f"Today is {day:%A}, {statement.day(day)}.")]
    if P["cards"].fullmatch(message):
        return [ReadyCall("card_status")]
    if P["only_pending"].fullmatch(message):
        return [ReadyCall("transactions", {"status": "pending"})]
    return [ReadyCall("payees")] if P["payees"].fullmatch(message) or _asks_of_payee(reading) else None


def asks_nothing(reading: Reading) -> Items | None:
    """A message too vague to be understood, a refusal that stays, and a remark."""
    if not reading.turns:
        return [] if P["vague"].fullmatch(reading.message) else None
    if refused := still_refused(reading.message, reading.turns[0].assistant_response):
        return [Facts(refused)]
    if reading.plain and _only_thanks(reading):
        return [ReadyCall("small_talk")]
    return [HEARD] if reading.plain and is_remark(reading.messages[-1]) else None


def _only_thanks(reading: Reading) -> bool:
    """Whether a remark ends with thanks, and names nothing that may be looked up or done."""
    message = reading.message
    if asks(message) or ORDERS.search(message) or not P["ends_thanks"].search(message):
        return False
    return not (reading.rules.names(message) or Slots(message, {}, reading.today).periods())


def _asks_of_payee(reading: Reading) -> bool:
    """Whether a message asks for the details of a saved payee."""
    if not (asked := P["payee_details"].search(reading.message)):
        return False
    who = asked["owner"] or asked["payee"]
    return who.lower() in PRONOUNS or bool(fitting(who, [one.name for one in reading.customer.payees], typos=False))
