"""What of the bank belongs to one customer, and which of the customer's accounts some words name."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from bankllm.assistant.bank.ledger import Account, Bank, Card, Payee, TransactionQuery
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.names import fitting, plain

Labelled = TypeVar("Labelled", Account, Payee)
CURRENCIES = patterns("currencies")
ACCOUNT_KINDS = patterns("account_kinds")


@dataclass(frozen=True)
class CustomerView:
    """What of the bank belongs to one customer."""

    accounts: Sequence[Account] = ()
    cards: Sequence[Card] = ()
    payees: Sequence[Payee] = ()
    merchants: Sequence[str] = ()
    """Counterparties of the customer's transactions."""
    categories: Sequence[str] = ()
    payday: date | None = None
    """Day of the latest salary."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of merchants and payees."""
        return (*self.merchants, *(payee.name for payee in self.payees))

    @classmethod
    def of(cls, bank: Bank, customer_id: str) -> "CustomerView":
        """Read the view of a customer. Raises what the bank raises."""
        salary = bank.transactions(customer_id, TransactionQuery(category="salary", direction="in", limit=1))
        return cls(
            bank.accounts(customer_id),
            bank.cards(customer_id),
            bank.payees(customer_id),
            bank.merchants(customer_id),
            bank.categories(),
            date.fromisoformat(salary[0].booked) if salary else None,
        )


def accounts_named(words: str, accounts: Sequence[Account]) -> list[Account]:
    """Return the accounts that the words fit, by the end of the number, name, kind or currency."""
    if digits := re.search(r"\d{4}$", words.strip()):
        return [one for one in accounts if one.ending == digits[0]]
    text, labels = plain(words), by_label(accounts)
    return (
        [labels[label] for label in fitting(words, labels)]
        or [one for one in accounts if means(ACCOUNT_KINDS, one.kind, text)]
        or [one for one in accounts if one.currency in CURRENCIES and _begins(CURRENCIES[one.currency], text)]
    )


def _begins(word: re.Pattern[str], text: str) -> bool:
    """Whether the text begins with the whole word: "p" begins "p" and "p account", and not "priya"."""
    return re.match(rf"(?:{word.pattern})(?!\w)", text) is not None


def by_label(items: Sequence[Labelled]) -> dict[str, Labelled]:
    """Return names that differ: of two equal ones with the end of the account number."""
    names = [item.name for item in items]
    return {item.name if names.count(item.name) == 1 else f"{item.name} ending {item.ending}": item for item in items}


def means(section: Mapping[str, re.Pattern[str]], name: str, text: str) -> bool:
    """Whether the words for a name of the section are the whole text."""
    return name in section and section[name].fullmatch(text) is not None
