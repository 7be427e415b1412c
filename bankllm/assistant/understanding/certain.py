"""Answer messages whose words say surely what is meant, where a head and a language model read something else.

These are money from a person, fees of a period, a payment taken twice, an amount to split, a change of a standing order
or direct debit, and what the assistant neither sees nor does.
"""

import re
from datetime import date, timedelta

from bankllm.assistant.facts import Facts, Question, ReadyCall
from bankllm.assistant.understanding import WORDS, patterns
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.names import fitting
from bankllm.assistant.understanding.readers import Ask, Unread, period, quoted
from bankllm.assistant.understanding.resolve import resolve, without_spacing
from bankllm.assistant.understanding.routes import CHOSEN, R
from bankllm.assistant.understanding.rules import Rules

P = patterns("certain")
REFUSED = patterns("refused")
REPLIES: dict[str, str] = WORDS["refused_replies"]
ARTICLES = patterns("certain_articles")
"""Article → words that surely ask for it."""
LATE = "balance_not_updated_after_bank_transfer"
WEEK = timedelta(days=7)
"""Longest period of which all payments in are listed, among which somebody's may be."""
USUAL_PERIOD = "last 3 months"
"""Period of income and spending that are compared if the message names none."""
YEAR = "past 12 months"
FEES = {"spending": "fees_taken", "transactions": "fee_of_day"}
NAME = re.compile(WORDS["certain_names"]["name"])
Items = list[ReadyCall | Question | Facts]


def certain(message: str, rules: Rules, today: date) -> Items:
    """Return what answers the message; empty if its words do not surely say what is meant."""
    if CHOSEN["human_agent"].search(message):
        return []
    if (refused := next((name for name in REFUSED if REFUSED[name].search(message)), "")) and not _asks_how(message):
        return [Facts(REPLIES[refused]), *_article(message)]
    if payer := who_pays(message, rules.customer):
        return [ReadyCall("transactions", {"merchant": payer})]
    if awaited := P["money_come"].fullmatch(message):
        payment = {"tool": "transactions", "merchant": awaited["who"], "direction": "in", "limit": "1"}
        (found_payment,) = resolve([payment], rules.customer, today)
        if isinstance(found_payment, Question) or not found_payment.unread:
            return [found_payment]
    if regular := _paid_from(message, rules, today):
        return regular
    if P["splits"].search(message) and not _asks_how(message):
        return [*resolve([{"tool": "transfer"}], rules.customer, today, message)]
    if P["income_when"].search(message):
        named = [{"tool": "transactions", "category": "salary"}] if P["payday"].search(message) else None
        read = named or rules.read("transactions", [message])
        latest = [{**call, "direction": "in", "limit": "1"} for call in read]
        return [*resolve(latest, rules.customer, today)]
    if income := P["year_income"].fullmatch(message):
        paid = {"category": "salary"} if income["salary"] else {"direction": "in"}
        return [*resolve([{"tool": "spending", **paid, "period": YEAR}], rules.customer, today)]
    credit = next((one for one in rules.customer.accounts if one.kind == "credit"), None)
    if P["pays_card_off"].fullmatch(message) and credit:
        return [*resolve([{"tool": "transfer", "to": credit.name}], rules.customer, today)]
    if owes := P["owes"].search(message):
        return [ReadyCall("balance", {"account_id": credit.account_id} if credit and owes["card"] else {})]
    savings = [one for one in rules.customer.accounts if one.kind == "savings"]
    if len(savings) == 1 and P["interest_got"].search(message):
        last = {"category": "interest", "direction": "in", "account_id": savings[0].account_id, "limit": 1}
        return [Facts(REPLIES["savings_rate"]), ReadyCall("transactions", last)]
    if P["conditional"].search(message):
        (waits,) = resolve([{"tool": "transfer"}], rules.customer, today, message)
        if isinstance(waits, ReadyCall) and waits.unread:
            return [waits]
    if P["affords"].search(message):
        return [ReadyCall("balance")]
    if P["out_than_in"].search(message) and not _asks_how(message):
        days = rules.read("spending", [message])[0].get("period", USUAL_PERIOD)
        wished = [{"tool": "spending", "direction": way, "period": days} for way in ("in", "out")]
        return [*resolve(wished, rules.customer, today)]
    if P["up_or_down"].search(message) and not rules.names(message):
        months = dict.fromkeys(call.get("period", "this month") for call in rules.read("spending", [message]))
        wished = [{"tool": "spending", "direction": way, "period": days} for days in months for way in ("in", "out")]
        return [*resolve(wished, rules.customer, today)]
    if fees := next((tool for tool, words in FEES.items() if P[words].search(message)), ""):
        days = rules.read(fees, [message])[0].get("period", "")
        if days and not P["several"].search(message) and set(rules.names(message)) <= {*P["fee"].findall(message)}:
            return [*resolve([{"tool": fees, "category": "fees", "period": days}], rules.customer, today)]
    if P["taken_twice"].search(message):
        calls = [call for call in rules.read("transactions", [message]) if "merchant" in call and "period" in call]
        calls = [without_spacing(call, message) for call in calls]
        kind = "direct_debit_indemnity" if P["direct_debit"].search(message) else "transaction_charged_twice"
        return [*resolve(calls, rules.customer, today), ReadyCall("knowledge", {"article": kind})] if calls else []
    if found := _article(message):
        return found
    return _received(message, rules, today)


def who_pays(message: str, customer: CustomerView) -> str:
    """Return the customer's counterparty of whom a message asks who it is and why it pays; else nothing."""
    asked = P["who_pays"].fullmatch(message)
    found = fitting(asked["name"], customer.merchants, partial=False, typos=False) if asked else []
    return found[0] if len(found) == 1 else ""


def _paid_from(message: str, rules: Rules, today: date) -> Items:
    """Return the regular payments of which the message asks from which account they are taken."""
    if not P["which_account"].search(message) or "period" in rules.read("spending", [message])[0]:
        return []
    asked = [{"tool": "standing_orders", "merchant": words} for words in rules.names(message)]
    ready = resolve(asked, rules.customer, today)
    return [one for one in ready if isinstance(one, ReadyCall) and not one.unread]


def _article(message: str) -> Items:
    found = next((name for name in ARTICLES if ARTICLES[name].search(message)), "")
    return [ReadyCall("knowledge", {"article": found})] if found else []


def _asks_how(message: str) -> bool:
    return bool(P["asks_how"].match(message))


def _received(message: str, rules: Rules, today: date) -> Items:
    """Say that no payment came from a person whom the customer's records do not know, and list those of the days."""
    if not (P["came"].search(message) and P["asks_if_came"].search(message)) or R["how_to"].search(message):
        return []
    relative, named = P["relative"].search(message), NAME.search(message)
    name = next(filter(None, named.groups()), "") if named else ""
    if relative and (after := relative["name"]) and (after[0].isupper() or after.lower() not in rules.head.ordinary):
        name = after
    elif name.split()[:1] and name.split()[0].lower() in rules.head.ordinary:
        name = ""
    who = name or (relative["who"] if relative and P["relative_sent"].search(message) else "")
    own = [words for words in rules.names(message) if fitting(words, rules.customer.names)]
    words = rules.read("transactions", [message])[0].get("period", "")
    if len(own) == 1 and P["he_sent"].search(message) and words:
        if not fitting(own[0], rules.customer.merchants):
            return [Facts(REPLIES["no_payment_from"].format(quoted(own[0])))]
        call = {"tool": "spending", "merchant": own[0], "direction": "in", "period": words}
        return [*resolve([call], rules.customer, today)]
    if not who or own or fitting(who, rules.customer.names):
        return []
    late: Items = [ReadyCall("knowledge", {"article": LATE})] if P["not_there"].search(message) else []
    if name:
        return [Facts(REPLIES["no_payment_from"].format(quoted(name))), *late]
    try:
        days = period(words, rules.customer, today) if words else {}
    except (Ask, Unread):
        days = {}
    short = "date_from" in days and date.fromisoformat(days["date_to"]) - date.fromisoformat(days["date_from"]) <= WEEK
    listed = [ReadyCall("transactions", {"direction": "in", **days})] if short else []
    return [Facts(REPLIES["who_is_it"].format(quoted(f"my {who}"))), *listed, *late]
