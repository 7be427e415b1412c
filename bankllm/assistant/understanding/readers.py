"""Read one argument of a tool call as values of the customer's own data, or say what must be asked."""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any, TypeVar

from dateutil.relativedelta import relativedelta

from bankllm.assistant.bank.ledger import ABROAD, Card
from bankllm.assistant.understanding import WORDS, amounts, calendar_words, patterns, periods
from bankllm.assistant.understanding.customer import (
    ACCOUNT_KINDS,
    CURRENCIES,
    CustomerView,
    accounts_named,
    by_label,
    means,
)
from bankllm.assistant.understanding.names import LONGEST_NAME, beginning, fitting, plain
from bankllm.errors import UsageError

Values = dict[str, Any]
Read = TypeVar("Read")
SHOWN = 40
"""Longest piece of a customer's words that a reply repeats."""
P = patterns("resolve")
PLACE = re.compile(r"in [A-Z][a-z]")
PLAIN, GENERAL = (patterns("patterns")[name] for name in ("plain_word", "general_category"))
CATEGORIES = patterns("categories")
NEAR_CATEGORIES = patterns("near_categories")
FEES = patterns("fees_of")
PLACES = patterns("places_abroad")
BEYOND: dict[str, str] = WORDS["beyond_replies"]
KINDS = patterns("kinds")


class Ask(Exception):
    """The customer must say more. The text is what is wrong, and the question with the options to choose from."""

    def __init__(self, question: str, options: Iterable[str] = (), wrong: str = "") -> None:
        self.options, self.wrong = tuple(options), wrong
        if len(self.options) == 1:
            question = f"Do you mean {self.options[0]}?"
        elif self.options:
            question = f"{question[:-1]}: {', '.join(self.options[:-1])} or {self.options[-1]}?"
        super().__init__(f"{wrong} {question}".strip())


class Unread(Exception):
    """The words fit nothing of the customer's; the text says so."""


def period(words: str, customer: CustomerView, today: date, *, future: bool = False) -> Values:
    if P["since_payday"].fullmatch(words.strip()) and customer.payday:
        return {"date_from": customer.payday.isoformat(), "date_to": today.isoformat()}
    if future and customer.payday and P["until_payday"].fullmatch(words.strip()):
        coming = customer.payday + relativedelta(months=1)
        if coming < today:
            raise Unread("I cannot tell your next payday from your records.")
        return {"date_from": today.isoformat(), "date_to": coming.isoformat()}
    if customer.accounts and all(account.currency == "USD" for account in customer.accounts):
        words = calendar_words.month_first(words)
    else:
        words = calendar_words.with_years(words, today)
    found = _accepted(lambda: (periods.coming if future else periods.period)(words, today), "Which days do you mean?")
    if found is None and PLACE.match(words):
        raise Unread(f"The records do not say where you paid, so I cannot look for payments {quoted(words)}.")
    if found is None:
        raise Ask(f"Which days do you mean by {quoted(words)}? For example: October, since 1 March, or 3 to 9 May.")
    first = {"date_from": found.date_from.isoformat()} if found.date_from else {}
    return first | {"date_to": found.date_to.isoformat()}


def day(words: str, today: date, *, future: bool) -> Values:
    """Read a day that is to come (`future`), or one that has been."""
    found = _accepted(lambda: periods.day(words, today, future=future), "Which day do you mean?")
    if found is None and not future:
        days = _accepted(lambda: periods.period(words, today), "Which day do you mean?")
        found = days and days.date_to
    if found is None:
        raise Ask(f"Which day do you mean by {quoted(words)}? For example: 3 May, Friday, or tomorrow.")
    if (found < today) if future else (found > today):
        when = "over" if future else "in the future"
        raise Ask("Which day do you mean?", wrong=f"{quoted(words)} is {found.day} {found:%B %Y}, which is {when}.")
    return {"date": found.isoformat()}


def amount(words: str, name: str, customer: CustomerView) -> Values:
    """Read money, which must be in a currency of the customer's accounts."""
    found = _accepted(lambda: amounts.amount(words), "Which amount do you mean?")
    if found is None:
        raise Ask(f"Which amount do you mean by {quoted(words)}? For example: £50 or 12.50.")
    held = sorted({account.currency for account in customer.accounts})
    if found.currency and held and found.currency not in held:
        wrong = f"You have no account in {found.currency}, only in {', '.join(held)}."
        raise Ask("Which amount do you mean?", wrong=wrong)
    return {name: found.amount_minor} | ({"currency": found.currency} if found.currency else {})


def bound(words: str, name: str, customer: CustomerView) -> Values:
    """Read the least or the largest amount of a list: of the account in its currency, if there is one such account."""
    values = amount(words, name, customer)
    held = [account for account in customer.accounts if account.currency == values.get("currency")]
    return values | ({"account_id": held[0].account_id} if len(held) == 1 < len(customer.accounts) else {})


def limit(words: str) -> Values:
    found = amounts.limit(words)
    if found is None:
        raise Ask("How many payments do you want to see?")
    return {"limit": found}


def subject(slot: str, words: str, customer: CustomerView, *, near: bool = False) -> Values:
    """Read a merchant or a category. People and models take one for the other.

    With `near`, words for a part of a category mean the category, if there is one such.
    """
    text = P["article"].sub("", plain(words))
    by_name = slot == "merchant" and not GENERAL.fullmatch(text)  # "transport" is not Transport for London
    readers = (_merchant, _category) if by_name else (_category, _merchant)
    if found := readers[0](words, customer) or readers[1](words, customer):
        return found
    if near_ones := [name for name in customer.categories if means(NEAR_CATEGORIES, name, text)]:
        if near and len(near_ones) == 1:
            return {"category": near_ones[0]}
        raise Ask("Which category do you mean?", near_ones, f"I do not know the category {quoted(words)}.")
    if any(place.fullmatch(text) for place in PLACES.values()):
        raise Unread(BEYOND["trip"])
    if P["people"].fullmatch(text):
        raise Ask("Which name do the payments have?", wrong=f"I cannot tell from your records who {quoted(words)} is.")
    if len(words.split()) > LONGEST_NAME or PLAIN.fullmatch(words):
        raise Unread(f"I did not understand {quoted(words)}. Please name a merchant, a category, or days.")
    if saved := fitting(words, [payee.name for payee in customer.payees], typos=False):
        raise Unread(f"I found no payments to or from {' or '.join(saved)}.")
    raise Unread(f"There is no {slot} {quoted(words)} in your accounts.")


def left_out(words: str, customer: CustomerView) -> Values:
    """Read what a sum or a list leaves out: merchants, categories and kinds of payments."""
    whole = _left_out(words, customer)
    read = [whole] if whole else [_left_out(part, customer) for part in P["listed"].split(words)]
    if not all(read):
        raise Unread(f"I could not tell what to leave out by {quoted(words)}. Please name merchants or categories.")
    return {"without": read}


def _left_out(words: str, customer: CustomerView) -> Values:
    """Return the condition; an empty one if the words fit nothing, or several."""
    words = P["around_part"].sub("", words).strip()
    if kind := next((kind for kind, named in KINDS.items() if named.fullmatch(words)), None):
        return {"kind": kind}
    try:
        return subject("category", words, customer)
    except (Ask, Unread):
        accounts = accounts_named(words, customer.accounts)
        return {"account_id": accounts[0].account_id} if len(accounts) == 1 else {}


def foreign(words: str, customer: CustomerView) -> Values:
    """Read the currency of payments, or the place of a trip by the currency in which one pays there."""
    if P["anywhere_abroad"].fullmatch(words):
        return {"foreign": ABROAD}
    code = next((code for code, names in CURRENCIES.items() if names.fullmatch(words)), None)
    place = next((code for code, names in PLACES.items() if names.fullmatch(words)), None)
    home = customer.accounts[0].currency if customer.accounts else None
    if not (code or place) or place == home:
        raise Unread(BEYOND["trip"])
    return {"foreign": code or place}


def account(words: str, name: str, customer: CustomerView, *, pays: bool) -> Values:
    if not pays and P["all_accounts"].search(words):
        return {}
    if not pays and (other := P["not_this"].fullmatch(words)):
        left = [one for one in customer.accounts if one not in accounts_named(other[1], customer.accounts)]
        if len(left) != 1:
            raise Ask("Which account do you mean?", by_label(left))
        return {name: left[0].account_id}
    found = accounts_named(words, customer.accounts)
    labels = list(by_label(found or customer.accounts))
    if len(found) > 1 or (pays and not found):
        raise Ask(f"Which account do you mean by {quoted(words)}?", labels)
    if not found:
        raise Unread(f"You have no account {quoted(words)}. You have: {', '.join(labels)}.")
    return {name: found[0].account_id}


def card(words: str | None, customer: CustomerView, usable: Sequence[str]) -> Values:
    """Read a card. Without words it is the only one with a usable status."""
    if words and P["no_card"].fullmatch(words):
        words = None
    if words is None:
        found = [one for one in customer.cards if one.status in usable]
    else:
        digits = re.search(r"\d{4}$", words.strip())
        names = {f"{_card_label(one)} {one.kind} {_account_name(one, customer)}": one for one in customer.cards}
        found = [one for one in customer.cards if digits and one.last4 == digits[0]]
        if not digits:
            own = fitting(words, [one.name for one in customer.cards], typos=False)
            found = [one for one in customer.cards if one.name in own]
            found = found or [names[name] for name in fitting(words, names)]
        if not found and len(customer.cards) == 1 and P["usual_card"].fullmatch(words):
            found = list(customer.cards)
    if len(found) > 1:
        found = [one for one in found if one.status in usable] or found
    if len(found) == 1:
        return {"card_id": found[0].card_id}
    if words is None and not found and customer.cards and len(usable) == 1:
        states = "; ".join(f"{_card_label(one)} is {one.status}" for one in customer.cards)
        raise Unread(f"You have no card that is {usable[0]}: {states}.")
    if words and not found and customer.cards:
        several = P["several"].search(words)
        wrong = "I can do this for one card at a time." if several else f"You have no card {quoted(words)}."
        possible = [one for one in customer.cards if one.status in usable]
        only = len(possible) == 1 and tuple(usable) == ("frozen",) and not several
        wrong += f" Only your {_card_label(possible[0])} is frozen." if only else ""
        raise Ask("Which card do you mean?", map(_card_label, possible if only else customer.cards), wrong)
    text = f"Which card do you mean by {quoted(words)}?" if words else "Which card do you mean?"
    raise Ask(text if customer.cards else "You have no card.", map(_card_label, found or customer.cards))


def payee(words: str | None, customer: CustomerView) -> Values:
    """Read a saved payee, or an account of the customer's own."""
    payees, accounts = by_label(customer.payees), by_label(customer.accounts)
    if words is None:
        raise Ask("Who do you want to pay?" if payees else "You have no saved payees.", payees)
    if plain(words) in ("other", "other one", "other account"):
        raise Ask("Which account do you mean?", accounts)
    if plain(words) in ("me", "myself", "my account", "me own account"):
        raise Ask("Which of your own accounts should it go to?", accounts)
    found = fitting(words, payees, typos=False) or fitting(P["possessive"].sub("", words), payees, typos=False)
    own = [label for label, one in accounts.items() if one in accounts_named(words, customer.accounts)]
    if len(found) + len(own) > 1:
        raise Ask(f"Which {quoted(words)} do you mean?", (*found, *own))
    if not found and not own:
        similar = fitting(words, payees)
        if any(kind.fullmatch(plain(words)) for kind in ACCOUNT_KINDS.values()):
            raise Ask("Who do you want to pay?", similar or payees, f"You have no {quoted(words)} account here.")
        raise Ask("Who do you want to pay?", similar or payees, f"You have no saved payee {quoted(words)}.")
    return {"payee_id": payees[found[0]].payee_id} if found else {"to_account_id": accounts[own[0]].account_id}


def _merchant(words: str, customer: CustomerView) -> Values:
    part = any(means(NEAR_CATEGORIES, name, plain(words)) for name in customer.categories)  # a car is no Carrefour
    begins = [] if part else beginning(words, customer.merchants)
    payees = [one.name for one in customer.payees]
    found = fitting(words, customer.merchants) or begins or fitting(words, payees, typos=False)
    return _one("merchant", words, found or fitting(plain(words).removesuffix("s"), customer.names, typos=False))


def _category(words: str, customer: CustomerView) -> Values:
    text, known = P["article"].sub("", plain(words)), customer.categories
    found = fitting(words, known, partial=False)
    values = _one("category", words, found or [name for name in known if means(CATEGORIES, name, text)])
    fee = fee_named(text)
    return values | ({"described": fee} if fee and values == {"category": "fees"} else {})


def fee_named(text: str) -> str | None:
    """Return the description of the kind of fee that the words name."""
    return next((what for what, named in FEES.items() if named.fullmatch(text)), None)


def _one(slot: str, words: str, found: Sequence[str]) -> Values:
    if len(found) > 1:
        raise Ask(f"Which {quoted(words)} do you mean?", found)
    return {slot: found[0]} if found else {}


def _card_label(one: Card) -> str:
    return f"{one.name} ending {one.last4}"


def _account_name(one: Card, customer: CustomerView) -> str:
    return next((held.name for held in customer.accounts if held.account_id == one.account_id), "")


def _accepted(read: Callable[[], Read], question: str) -> Read:
    """Return what `read` returns; ask with its error."""
    try:
        return read()
    except UsageError as error:
        raise Ask(question, wrong=str(error)) from None


def quoted(words: str) -> str:
    return f"“{words if len(words) <= SHOWN else words[:SHOWN] + '…'}”"
