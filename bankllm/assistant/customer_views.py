"""The names of each customer's merchants, payees and cards, kept for a minute."""

from threading import Lock

from cachetools import TTLCache

from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.errors import LedgerError

VIEW_TTL_S, VIEWS_KEPT = 60.0, 4096
"""For how long, and of how many customers, the names of merchants, payees and cards are kept."""


class CustomerViews:
    """Thread-safe."""

    def __init__(self, bank: Bank) -> None:
        self._bank, self._lock = bank, Lock()
        self._views: TTLCache[str, CustomerView] = TTLCache(VIEWS_KEPT, VIEW_TTL_S)

    def of(self, customer_id: str) -> CustomerView:
        """Return the view. Raises what the bank raises."""
        with self._lock:
            view = self._views.get(customer_id)
        if view is None:
            view = CustomerView.of(self._bank, customer_id)
            with self._lock:
                self._views[customer_id] = view
        return view

    def or_empty(self, customer_id: str) -> CustomerView:
        """Return the view; an empty one if the ledger fails, which the tools then say."""
        try:
            return self.of(customer_id)
        except LedgerError:
            return CustomerView()

    def forget(self, customer_id: str) -> None:
        """Read the customer's names again, after an action may have changed them."""
        with self._lock:
            self._views.pop(customer_id, None)
