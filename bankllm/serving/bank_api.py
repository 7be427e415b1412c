"""What the bank has of one customer, so that anyone can compute the answer to a question.

`GET /api/v1/customers/{customer_id}/` and `accounts`, `transactions`, `cards`, `payees` or `standing-orders`.
"""

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from bankllm.assistant.bank.ledger import Account, Bank, Card, Payee, StandingOrder, Transaction, TransactionQuery
from bankllm.assistant.engine import ChatEngine
from bankllm.errors import UsageError
from bankllm.serving.auth import AccessToken, ReadToken
from bankllm.serving.chat_api import CustomerId
from bankllm.serving.errors import READ_REFUSED
from bankllm.serving.limits import RateLimit

LISTS = {"accounts": Account, "cards": Card, "payees": Payee, "standing-orders": StandingOrder}
"""Path → the rows that it returns, from the method of `Bank` with that name."""
Words = Annotated[str | None, Query(max_length=200)]


def bank_routes(current: Callable[[], ChatEngine], token: ReadToken, limit: RateLimit) -> APIRouter:
    router = APIRouter(prefix="/api/v1/customers/{customer_id}", tags=["bank"], responses=READ_REFUSED)

    def bank_of(customer_id: CustomerId, given: Annotated[AccessToken, Depends(token)]) -> Bank:
        limit.admit(given, customer_id)
        engine = current()
        if engine.actions:
            engine.actions.book_due()
        return engine.bank

    CustomerBank = Annotated[Bank, Depends(bank_of)]

    def reader(method: str) -> Callable[..., Any]:
        def read(customer_id: CustomerId, bank: CustomerBank) -> Any:
            return getattr(bank, method)(customer_id)

        return read

    for path, row in LISTS.items():
        name = path.replace("-", "_")
        router.add_api_route(
            f"/{path}",
            reader(name),
            response_model=list[row],  # type: ignore[valid-type]
            name=name,
            summary=f"Read a customer's {path.replace('-', ' ')}",
            description="Amounts are in minor units (pence, cents).",
        )

    @router.get("/transactions", summary="Read a customer's transactions")
    def transactions(
        customer_id: CustomerId,
        bank: CustomerBank,
        date_from: Annotated[date | None, Query(alias="from", description="The first day")] = None,
        date_to: Annotated[date | None, Query(alias="to", description="The last day, included")] = None,
        merchant: Words = None,
        category: Words = None,
        account_id: Words = None,
    ) -> list[Transaction]:
        """The transactions that meet all conditions, newest first. Amounts are in minor units, negative for money out.

        A merchant is the name of a counterparty, a category may be a group of categories.
        """
        if date_from and date_to and date_from > date_to:
            raise UsageError(f"Expected a period whose first day is not after its last, got {date_from} to {date_to}.")
        first, last = (day.isoformat() if day else None for day in (date_from, date_to))
        return list(bank.transactions(customer_id, TransactionQuery(merchant, category, first, last, account_id)))

    return router
