"""What the bank has of one customer, so that anyone can compute the answer to a question.

`GET /api/v1/customers/{customer_id}/` and `accounts`, `transactions`, `cards`, `payees` or `standing-orders`.
"""

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from bankllm.assistant.bank.ledger import Account, Bank, Card, Payee, StandingOrder, Transaction, TransactionQuery
from bankllm.assistant.engine import ChatEngine
from bankllm.errors import UsageError
from bankllm.serving.auth import require_same_customer
from bankllm.serving.chat_api import CustomerId
from bankllm.serving.errors import READ_REFUSED
from bankllm.serving.limits import RateLimit

MAX_TRANSACTIONS = 10_000


class CustomerAccounts(BaseModel):
    customer_id: str
    accounts: list[Account]


class CustomerTransactions(BaseModel):
    customer_id: str
    transactions: list[Transaction]
    """Newest first. Pending ones have the day on which they were authorised."""


class CustomerCards(BaseModel):
    customer_id: str
    cards: list[Card]


class CustomerPayees(BaseModel):
    customer_id: str
    payees: list[Payee]


class CustomerStandingOrders(BaseModel):
    customer_id: str
    standing_orders: list[StandingOrder]


def bank_routes(current: Callable[[], ChatEngine], customer_of: Callable[..., Any], limit: RateLimit) -> APIRouter:
    router = APIRouter(prefix="/api/v1/customers/{customer_id}", tags=["bank"])

    def bank_of(customer_id: CustomerId, customer: Annotated[str | None, Depends(customer_of)]) -> Bank:
        require_same_customer(customer, customer_id)
        limit.check(customer_id)
        return current().bank

    CustomerBank = Annotated[Bank, Depends(bank_of)]

    @router.get("/accounts", summary="Read a customer's accounts and balances", responses=READ_REFUSED)
    def accounts(customer_id: CustomerId, bank: CustomerBank) -> CustomerAccounts:
        """Amounts are in minor units. Available is the balance plus pending payments (negative) plus the overdraft."""
        return CustomerAccounts(customer_id=customer_id, accounts=list(bank.accounts(customer_id)))

    @router.get("/transactions", summary="Read a customer's transactions", responses=READ_REFUSED)
    def transactions(
        customer_id: CustomerId,
        bank: CustomerBank,
        date_from: Annotated[date | None, Query(alias="from", description="First day")] = None,
        date_to: Annotated[date | None, Query(alias="to", description="Last day, included")] = None,
        merchant: Annotated[str | None, Query(max_length=200, description="Counterparty, in any case")] = None,
        category: Annotated[str | None, Query(max_length=200, description="Category, or group of categories")] = None,
        account_id: Annotated[str | None, Query(max_length=128)] = None,
        direction: Literal["in", "out"] | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_TRANSACTIONS)] = 1000,
    ) -> CustomerTransactions:
        """Transactions that meet all conditions, newest first. Amounts are in minor units, negative for money out."""
        if date_from and date_to and date_from > date_to:
            raise UsageError(f"Expected a period whose first day is not after its last, got {date_from} to {date_to}.")
        query = TransactionQuery(
            merchant=merchant,
            category=category,
            date_from=date_from.isoformat() if date_from else None,
            date_to=date_to.isoformat() if date_to else None,
            account_id=account_id,
            direction=direction,
            limit=limit,
        )
        return CustomerTransactions(customer_id=customer_id, transactions=list(bank.transactions(customer_id, query)))

    @router.get("/cards", summary="Read a customer's cards", responses=READ_REFUSED)
    def cards(customer_id: CustomerId, bank: CustomerBank) -> CustomerCards:
        return CustomerCards(customer_id=customer_id, cards=list(bank.cards(customer_id)))

    @router.get("/payees", summary="Read a customer's saved payees", responses=READ_REFUSED)
    def payees(customer_id: CustomerId, bank: CustomerBank) -> CustomerPayees:
        return CustomerPayees(customer_id=customer_id, payees=list(bank.payees(customer_id)))

    @router.get("/standing-orders", summary="Read a customer's regular payments", responses=READ_REFUSED)
    def standing_orders(customer_id: CustomerId, bank: CustomerBank) -> CustomerStandingOrders:
        """Standing orders, direct debits and subscriptions, by the day on which they are due next."""
        orders = list(bank.standing_orders(customer_id))
        return CustomerStandingOrders(customer_id=customer_id, standing_orders=orders)

    return router
