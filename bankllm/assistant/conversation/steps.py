"""The steps that read a message, in order: the first one that finds what to answer ends the reading.

A step returns the parts of the reply; an empty list if the message is not understood, and None if it is for a later
step. `WHILE_WAITING` are about an action that the message cancelled because it is no yes and no no; `IN_CONTEXT` follow
once an unclear message is classified together with the turn before it.
"""

from collections.abc import Callable, Sequence

from bankllm.assistant.actions.proposals import PLANS
from bankllm.assistant.actions.yes_no import is_yes
from bankllm.assistant.bank.tools import Call
from bankllm.assistant.conversation.call_proposal import in_conversation, proposed
from bankllm.assistant.conversation.call_values import UNKNOWN, with_values
from bankllm.assistant.conversation.fixed_replies import Items, asks_nothing, fixed
from bankllm.assistant.conversation.reading import Reading
from bankllm.assistant.earlier.due import of_due, subject_of
from bankllm.assistant.earlier.references import without_this
from bankllm.assistant.earlier.shown import compared, of_shown
from bankllm.assistant.facts import Facts, ReadyCall
from bankllm.assistant.followups import asks
from bankllm.assistant.orders.regular_orders import (
    ORDER,
    changed,
    chosen,
    corrected,
    ended,
    means_another,
    named_kind,
    none_to_end,
    orders_to_end,
    shown_before,
    stops_it,
    which,
    without_kept,
    without_other_order,
)
from bankllm.assistant.orders.restated import refuses
from bankllm.assistant.orders.waiting import cannot, other_option, repeated, with_detail, with_other_card
from bankllm.assistant.orders.while_waiting import about_payee, changed_inside, left_after, topics, with_waiting
from bankllm.assistant.tools.standing_orders import kinds_named, paid_for
from bankllm.assistant.understanding.beyond import beyond
from bankllm.assistant.understanding.certain import certain
from bankllm.assistant.understanding.completion import only_account
from bankllm.assistant.understanding.orders import changed_order, declines, named_payees, takes_back
from bankllm.assistant.understanding.question_answers import answered
from bankllm.assistant.understanding.readers import P as ANSWERS
from bankllm.assistant.understanding.readers import quoted
from bankllm.assistant.understanding.routes import R as ROUTES
from bankllm.assistant.understanding.slots import P
from bankllm.assistant.understanding.sum_wishes import SUMS

Step = Callable[[Reading], Items | None]
SEVERAL = frozenset(("card", "category", "merchant"))
"""Arguments whose question is also answered by "both"."""
NOTHING_ORDERED = ReadyCall("small_talk", {"answer": "no"})


def changes_action(reading: Reading) -> Items | None:
    """What waited, with what a sentence changes: "call it fifty"."""
    if not (waited := reading.withdrawn):
        return None
    other = changed_order(waited.tool, waited.arguments, reading.message)
    other = other or changed_inside(waited, reading.message, reading.view, reading.today)
    return [other] if other else None


def asks_beside(reading: Reading) -> Items | None:
    """The answer to a question about what waited, or about its payee; what waited is proposed again."""
    if not (waited := reading.withdrawn):
        return None
    answer: Items = [*topics("order_id" if "order_id" in waited.arguments else waited.tool, reading.message)]
    if why := cannot(waited, reading.message) or left_after(waited, reading.message, reading.view):
        answer = [Facts(why)]
    text = about_payee(waited, reading.message, reading.view) if not answer and reading.parts.head_fits else ""
    if text:
        answer = [*of_due(text, reading.turns, reading.view(), reading.today, reading.rules.names)]
    if text and not answer:
        calls = [call for call in reading.rules.propose([text]) if call["tool"] in SUMS]
        answer = with_values(reading, calls, text, text) if calls else []
    if not answer:
        return None
    reading.pending.withdrawn = None
    return [*answer, ReadyCall(waited.tool, waited.arguments)]


def agrees_to_both(reading: Reading) -> Items | None:
    """A yes to the first of two actions: it is done, and the second one is proposed."""
    if not (offered := reading.offered) or not reading.parts.orders.agrees(reading.pending):
        return None
    done = reading.parts.orders.decided(reading.pending)
    return [done, ReadyCall(offered.tool, offered.call)] if done else None


def orders_again(reading: Reading) -> Items | None:
    """The conversation's last action once more, or for the customer's other card."""
    last = reading.last if reading.plain else None
    again = repeated(last, reading.message, reading.view, reading.today)
    again = again or with_other_card(last, reading.message, reading.view)
    return [again] if again else None


def chooses_regular(reading: Reading) -> Items | None:
    """The answer which direct debit, standing order or subscription ends."""
    question, pending = reading.question, reading.pending
    if not question or question.slot != ORDER or reading.parts.orders.waits(pending):
        return None
    regular = reading.parts.bank.standing_orders(pending.customer_id)
    return [*chosen(question, reading.message, regular, reading.today)] or None


def ends_regular(reading: Reading) -> Items | None:
    """An order to end direct debits, standing orders or subscriptions."""
    message, pending, bank = reading.message, reading.pending, reading.parts.bank
    if reading.question or reading.parts.orders.waits(pending):
        return None
    waited, order = reading.withdrawn, orders_to_end(message)
    another = waited is not None and means_another(waited, message)
    if reading.plain and stops_it(message):
        shown = shown_before(reading.turns, bank.standing_orders(pending.customer_id))
        if shown:
            return [*shown]
    if reading.plain and not order:
        return [*changed(message, reading.turns)] or None
    if not (order or another):
        return None
    words, view = reading.rules.names(corrected(without_kept(message))), reading.view()
    words = words or reading.rules.names(without_kept(order)) or reading.rules.names(without_kept(message))
    unknown = named_kind(message, reading.rules.head.ordinary)
    if unknown and not set(words).difference(kinds_named(message)):
        return [*none_to_end(message, [unknown])]
    regular = bank.standing_orders(pending.customer_id)
    if another and not words:
        return [*chosen(which(regular), message, regular, reading.today)] or None
    if waited and not (words or kinds_named(message)):
        return None
    subjects = ((one, subject_of(one, view)) for one in words)
    named = {one: paid_for(pending.customer_id, about, bank) if about else set() for one, about in subjects}
    found: Items = [*ended(message, reading.turns, regular, [*named.values()], reading.today)]
    paid = {payee.name for payee in view.payees} | {one.name for one in regular}
    found += none_to_end(message, [one for one, names in named.items() if not names & paid])
    rest = message.removeprefix(without_other_order(message)) if found else ""
    beside = with_values(reading, reading.rules.propose([rest]), rest, rest) if rest else []
    return [*found, *beside] or None


def answers_question(reading: Reading) -> Items | None:
    """An answer to what the reply before asked, or another detail of what waited."""
    question, message = reading.question, reading.message
    if question and question.tool in PLANS and refuses(message) and not any(map(asks, message.split(","))):
        return [NOTHING_ORDERED]
    if question and (about := topics(question.tool, message)):
        return [*about, question]
    if question and question.slot in SEVERAL and ANSWERS["both"].fullmatch(message.strip(" .!,")):
        several = [{"tool": question.tool, **question.call, question.slot: one} for one in question.options]
        return _finished(reading, several, message, message)
    if call := _answer(reading):
        return _finished(reading, [call], message, "")
    if question and is_yes(message):
        return [question]  # the yes is no answer to it, and not to what was proposed before it
    return None


def decides(reading: Reading) -> Items | None:
    """A yes or a no to what waits, or the question whether it is done."""
    if decided := reading.parts.orders.decided(reading.pending):
        return [decided]
    done = reading.parts.orders.done(reading.pending)
    return [Facts(done)] if done else None


def asks_of_shown(reading: Reading) -> Items | None:
    """What a message asks of the figures and rows that replies before it showed."""
    if reading.withdrawn:
        return None
    return [*of_shown(reading.message, reading.turns, reading.customer, reading.today)] or None


def asks_of_due(reading: Reading) -> Items | None:
    """What a message asks of regular payments: when they are due, and whether money is enough."""
    if not reading.plain:
        return None
    message, names = reading.messages[-1], reading.rules.names
    return [*of_due(message, reading.turns, reading.view(), reading.today, names)] or None


def is_certain(reading: Reading) -> Items | None:
    """Words of which the meaning is sure."""
    return (certain(reading.messages[-1], reading.rules, reading.today) or None) if reading.plain else None


def pays_regular(reading: Reading) -> Items | None:
    """What pays regularly whom a message orders to pay without naming a saved payee: "pay the council tax"."""
    message, pending, bank = reading.message, reading.pending, reading.parts.bank
    if not reading.plain or not ROUTES["pays_bill"].fullmatch(message) or named_payees(message, reading.view()):
        return None
    orders = {one.name for one in bank.standing_orders(pending.customer_id)}
    subjects = {words: subject_of(words, reading.view()) for words in reading.rules.names(message)}
    paid = {
        words: about
        for words, about in subjects.items()
        if about and paid_for(pending.customer_id, about, bank) & orders
    }
    if not paid:
        return None
    text = (
        f"{' and '.join(map(quoted, paid))}: no saved payee has this name, so I make no payment. It is paid regularly:"
    )
    return [Facts(text), *(ReadyCall("standing_orders", about) for about in paid.values())]


def calls_tools(reading: Reading) -> Items:
    """Everything else: the tool calls that rules or the language model propose."""
    pending, message = reading.pending, reading.message
    calls: Sequence[Call] = proposed(reading)
    if reading.turns and takes_back(calls, message):
        return [NOTHING_ORDERED]
    if reading.withdrawn and [call["tool"] for call in calls] == ["cancel_transfer"]:
        return []  # “actually cancel that” means what was proposed, and no other transfer
    calls = in_conversation(reading, calls)
    ordinary = reading.parts.head.ordinary
    if refused := beyond(reading.messages[-1], calls, pending.customer_id, ordinary, reading.view):
        return [Facts(refused)]
    items, question = _finished(reading, calls, reading.asked, message), reading.question
    if (waited := reading.withdrawn) and (both := with_waiting(waited, items, message)):
        pending.withdrawn = None
        return both
    if question and question.tool in PLANS:
        tools, declined = [call["tool"] for call in calls], declines(message)
        talk = [*calls] == [{"tool": "small_talk"}] and not P["polite"].fullmatch(message)
        unsaid = not items or items == [UNKNOWN] or tools == ["knowledge"]
        if talk and not declined:
            return [question]
        if unsaid and not asks(message):
            return [NOTHING_ORDERED if declined else question]  # it is no other wish, and no answer either
    return items


WHILE_WAITING: tuple[Step, ...] = (changes_action, asks_beside)
STEPS: tuple[Step, ...] = (
    agrees_to_both,
    orders_again,
    chooses_regular,
    ends_regular,
    answers_question,
    decides,
    fixed,
)
IN_CONTEXT: tuple[Step, ...] = (
    asks_of_shown,
    asks_of_due,
    is_certain,
    pays_regular,
    asks_nothing,
    calls_tools,
)


def _answer(reading: Reading) -> Call | None:
    """Return the call that the message completes: the one that was asked about, or what waited."""
    question, waited, message, today = reading.question, reading.withdrawn, reading.message, reading.today
    call = answered(question, message, today) if question and not declines(message) else None
    if question and question.slot == "to" and not call:
        named = {label for _, _, labels in named_payees(message, reading.view()) for label in labels}
        call = {"tool": question.tool, **question.call, "to": named.pop()} if len(named) == 1 else None
    if question and question.tool == "transfer" and not call and (source := only_account(message, reading.view())):
        call = {"tool": "transfer", **question.call, "from": source}
    if call and question and question.slot == "to" and "amount" not in question.call:
        endings = {payee.ending for payee in reading.view().payees}
        call = {name: words for name, words in call.items() if name != "amount" or words not in endings}
    if waited and not call:
        call = other_option(waited, message, reading.turns, reading.view, today)
        call = call or with_detail(waited, message, reading.view, today)
    return call


def _finished(reading: Reading, calls: Sequence[Call], asked: str, said: str) -> Items:
    """Return the calls with values; a figure that the message compares with one shown before follows that one."""
    message, today = reading.message, reading.today
    last = reading.last if reading.plain else None
    items = compared(with_values(reading, calls, asked, said), message, reading.turns, today)
    return without_this(items, message, last, today)
