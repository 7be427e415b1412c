"""`demo:`: twelve invented customers with 15 months of transactions, generated from `data/demo_bank.toml`.

The same day gives the same ledger on every machine, and a month that is over never changes. The balances of today are
those of the TOML file; what was paid before leads to them.
"""

import calendar
import sqlite3
import tomllib
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from bankllm.assistant.bank.backends.sqlite_bank import SCHEMA, SQLiteBank, create_schema, open_or_create
from bankllm.assistant.bank.ledger import BANKS, MINOR_DIGITS
from bankllm.assistant.clock import today
from bankllm.settings import Settings, get_settings

CUSTOMERS = tuple(f"CUST{number:03}" for number in range(1, 13))
MONTHS = 15
"""Full months before the current one."""
PENDING_DAYS = 2
"""Days until a card payment is booked."""
IN_POUNDS = {"GBP": 1.0, "EUR": 0.86, "USD": 0.78, "JPY": 0.0052}
FOREIGN_FEE = 0.0275
RETURNED = {"clothes": 0.12, "online shopping": 0.07, "electronics": 0.08, "home": 0.06}
"""Category → share of payments that are refunded."""
KINDS = {"cash": "cash", "payments to people": "transfer"}
"""Category → kind of payment; all others are by card."""


class Payment(NamedTuple):
    day: date
    kind: str
    name: str
    category: str
    postings: dict[str, int]
    """The customer's account comes first."""
    original: tuple[str | None, int | None, float | None] = (None, None, None)

    def described(self) -> tuple[str, str | None, str]:
        """Description, counterparty and category."""
        named = self.kind not in ("opening", "cash", "interest", "fee", "own_transfer")
        description = f"{self.name} refund" if self.kind == "refund" else self.name
        return description, self.name if named else None, self.category


@BANKS.register("demo")
def open_demo(path: str, settings: Settings | None = None) -> SQLiteBank:
    """Open the demo bank at `path`; without a path, beside the store of the settings; without settings, in memory."""
    day = today(settings or get_settings())
    customers = f"The demo customers are {CUSTOMERS[0]} to {CUSTOMERS[-1]}."
    if settings is not None and not path:
        path = str(settings.store.with_suffix(f".ledger-{day}.sqlite"))
    if path:
        return SQLiteBank(open_or_create(Path(path), lambda db: fill(db, day)), customers)
    db = sqlite3.connect(":memory:", check_same_thread=False)
    db.deserialize(_serialized(day))
    return SQLiteBank(db, customers)


@cache
def _serialized(day: date) -> bytes:
    db = sqlite3.connect(":memory:", isolation_level=None)
    fill(db, day)
    return db.serialize()


def fill(db: sqlite3.Connection, day: date) -> None:
    """Create the demo ledger of one day in an empty database, inside the caller's transaction."""
    create_schema(db)
    demo = tomllib.loads(SCHEMA.with_name("demo_bank.toml").read_text(encoding="utf-8"))
    _insert(db, "categories", [(group, "") for group in demo["groups"]])
    _insert(db, "categories", [(name, group) for group, names in demo["groups"].items() for name in names])
    prices = {name: (category, *row) for category, names in demo["merchants"].items() for name, row in names.items()}
    _insert(db, "merchants", [(name, row[0]) for name, row in prices.items() if row[0] not in KINDS])
    first = _month(day, -MONTHS)
    outside = [f"OUTSIDE-{code}" for code in IN_POUNDS]
    _insert(db, "accounts", [(id_, "internal", "Outside", id_[-3:], "", "", "", str(first), 0) for id_ in outside])
    closing: dict[str, int] = {}
    for customer in demo["customers"]:
        _insert_customer(db, customer, day)
        closing |= {row[0]: row[-1] for row in customer["accounts"]}
    currency = dict(db.execute("SELECT account_id, currency FROM accounts"))
    payments = []
    for customer in demo["customers"]:
        for offset in range(-MONTHS, 1):
            payments += _payments(customer, _month(day, offset), prices, currency)
    payments = sorted(
        (payment for payment in payments if payment.day <= day),
        key=lambda payment: (payment.day, payment.name, next(iter(payment.postings))),
    )
    since = day - timedelta(PENDING_DAYS)
    pending = [payment for payment in payments if payment.kind == "card" and payment.day > since]
    booked = [payment for payment in payments if payment.kind != "card" or payment.day <= since]
    for payment in booked:
        for account in payment.postings.keys() & closing.keys():
            closing[account] -= payment.postings[account]
    opening = [
        Payment(
            first, "opening", "Opening balance", "opening", {account: minor, f"OUTSIDE-{currency[account]}": -minor}
        )
        for account, minor in closing.items()
    ]
    numbered = list(enumerate([*opening, *booked], 1))
    _insert(db, "entries", [(n, str(p.day), p.kind, *p.described(), "", *p.original) for n, p in numbered])
    _insert(db, "postings", sorted((a, str(p.day), n, minor) for n, p in numbered for a, minor in p.postings.items()))
    firsts = [(number, *next(iter(payment.postings.items())), payment) for number, payment in enumerate(pending, 1)]
    _insert(db, "pending", [(n, a, str(p.day), minor, *p.described(), *p.original) for n, a, minor, p in firsts])
    db.execute("ANALYZE")


def _insert_customer(db: sqlite3.Connection, customer: dict[str, Any], day: date) -> None:
    id_, accounts = customer["id"], customer["accounts"]
    _insert(db, "customers", [(id_, customer["name"])])
    _insert(db, "accounts", [row[:-1] for row in accounts])
    _insert(db, "holders", [(id_, row[0]) for row in accounts])
    cards = [
        (card, id_, *row, str(day - timedelta(days)), f"{_month(day, months):%Y-%m}", limit)
        for card, *row, days, months, limit in customer["cards"]
    ]
    _insert(db, "cards", cards)
    _insert(db, "payees", [(payee, id_, *row) for payee, *row in customer["payees"]])
    main = accounts[0][0]
    _insert(
        db,
        "scheduled",
        [
            (scheduled, id_, main, payee, None, minor, str(day + timedelta(days)), "", "waiting")
            for scheduled, payee, minor, days in customer["scheduled"]
        ],
    )
    orders = []
    for number, (name, minor, on, kind, _, account, *_) in enumerate(customer["monthly"], 1):
        kind = "standing_order" if kind == "own_transfer" else kind
        if kind in ("standing_order", "direct_debit", "subscription"):
            due = next(due for offset in (0, 1) if (due := _on(_month(day, offset), on)) > day)
            orders.append((f"SO{id_[4:]}{number:02}", account, kind, name, abs(minor), on, str(due), ""))
    _insert(db, "standing_orders", orders)


def _payments(
    customer: dict[str, Any], month: date, prices: dict[str, tuple[Any, ...]], currency: dict[str, str]
) -> Iterator[Payment]:
    """All that a customer pays and gets in one month, in an order that does not matter."""
    rng = Random(f"{customer['id']} {month:%Y-%m}")
    for name, minor, on, kind, category, account, *other in customer["monthly"]:
        kind = "card" if kind == "subscription" else kind
        postings = _between(account, other[0], minor, currency, rng) if other else _outside(account, minor, currency)
        yield Payment(_on(month, on), kind, "Own transfer" if other else name, category, postings)
    visits = []
    for account, habits in customer["habits"].items():
        for name, often in habits.items():
            for _ in range(int(often * (0.9 + 0.8 * rng.random()) + rng.random())):
                visits.append((name, account, month + timedelta(rng.randrange(_on(month, 31).day))))
    trip = customer.get("trips", {"months": []})
    if month.month in trip["months"]:
        abroad = [name for name, row in prices.items() if row[3:] == (trip["currency"],)]
        start = month + timedelta(6 + rng.randrange(12))
        for name in abroad + [rng.choice(abroad) for _ in range(5)]:
            visits.append((name, trip["account"], start + timedelta(rng.randrange(7))))
    for name, account, day in visits:
        yield from _visit(name, account, day, prices[name], currency, rng)


def _visit(
    name: str, account: str, day: date, price: Sequence[Any], currency: dict[str, str], rng: Random
) -> Iterator[Payment]:
    """One payment, its fee for a foreign currency, and its refund."""
    category, least, most, *foreign = price
    minor = least + int((most - least) * (rng.random() + rng.random()) / 2)
    original: tuple[str | None, int | None, float | None] = (None, None, None)
    if category in KINDS:
        minor -= minor % 1000
    elif foreign and foreign[0] != currency[account]:
        rate = _rate(foreign[0], currency[account], rng)
        original, minor = (foreign[0], minor, rate), _convert(minor, foreign[0], currency[account], rate)
        fee = -max(1, round(minor * FOREIGN_FEE))
        yield Payment(day, "fee", "Foreign payment fee", "fees", _outside(account, fee, currency))
    kind = KINDS.get(category, "card")
    yield Payment(day, kind, name, category, _outside(account, -minor, currency), original)
    if rng.random() < RETURNED.get(category, 0):
        back = day + timedelta(4 + rng.randrange(10))
        yield Payment(back, "refund", name, category, _outside(account, minor, currency))


def _insert(db: sqlite3.Connection, table: str, rows: list[Any]) -> None:
    """Insert rows; those that are there, such as a joint account of two customers, stay."""
    db.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)


def _outside(account: str, minor: int, currency: dict[str, str]) -> dict[str, int]:
    """The postings of a payment to (negative) or from outside the bank."""
    return {account: minor, f"OUTSIDE-{currency[account]}": -minor}


def _between(source: str, target: str, minor: int, currency: dict[str, str], rng: Random) -> dict[str, int]:
    """The postings of a transfer between own accounts; `minor` is in the currency of `target`."""
    own, foreign = currency[source], currency[target]
    if own == foreign:
        return {source: -minor, target: minor}
    cost = _convert(minor, foreign, own, _rate(foreign, own, rng))
    return _outside(source, -cost, currency) | _outside(target, minor, currency)


def _month(day: date, offset: int) -> date:
    """The first day of the month that is `offset` months later."""
    year, month = divmod(12 * day.year + day.month - 1 + offset, 12)
    return date(year, month + 1, 1)


def _on(month: date, day: int) -> date:
    """The day of that month, or its last day if it is shorter; −1: the last day from Monday to Friday."""
    end = month.replace(day=calendar.monthrange(month.year, month.month)[1])
    if day > 0:
        return min(end, month + timedelta(day - 1))
    return end - timedelta(max(0, end.weekday() - 4))


def _rate(original: str, own: str, rng: Random) -> float:
    return round(IN_POUNDS[original] / IN_POUNDS[own] * (0.98 + 0.04 * rng.random()), 5)


def _convert(minor: int, original: str, own: str, rate: float) -> int:
    digits = MINOR_DIGITS.get(own, 2) - MINOR_DIGITS.get(original, 2)
    return round(minor * rate * 10.0**digits)
