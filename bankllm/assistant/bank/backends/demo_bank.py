"""`demo:`: twelve invented customers with 15 months of transactions, generated from `data/demo_bank.toml`.

The same day gives the same ledger on every machine, and a month that is over never changes. `demo:PATH` is a file that
is made once; several processes may open it, and it keeps what they book.
"""

import calendar
import sqlite3
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

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
INTEREST = 0.035
"""Of savings, per year."""


@dataclass(eq=False)
class Booking:
    day: date
    kind: str
    description: str
    counterparty: str | None
    category: str
    postings: dict[str, int]
    """The customer's account comes first."""
    original: tuple[str | None, int | None, float | None] = (None, None, None)
    refund_of: "Booking | None" = None
    number: int = 0


@BANKS.register("demo")
def open_demo(path: str, settings: Settings | None = None) -> SQLiteBank:
    """Open the demo bank at `path`; without a path, beside the store of the settings; without settings, in memory."""
    day = today(settings or get_settings())
    customers = f"The demo customers are {CUSTOMERS[0]} to {CUSTOMERS[-1]}."
    if settings is not None and not path:
        path = str(settings.store.with_suffix(f".ledger-{day}.sqlite"))
    if not path:
        db = sqlite3.connect(":memory:", check_same_thread=False)
        db.deserialize(_serialized(day))
        return SQLiteBank(db, customers)
    return SQLiteBank(open_or_create(Path(path), lambda db: fill(db, day)), customers)


@cache
def _serialized(day: date) -> bytes:
    db = sqlite3.connect(":memory:", isolation_level=None)
    fill(db, day)
    return db.serialize()


def fill(db: sqlite3.Connection, day: date) -> None:
    """Create the demo ledger of one day in an empty database, inside the caller's transaction."""
    create_schema(db)
    demo = tomllib.loads(SCHEMA.with_name("demo_bank.toml").read_text(encoding="utf-8"))
    categories = [(category, group) for group, members in demo["groups"].items() for category in members]
    _insert(db, "categories", [*((group, "") for group in demo["groups"]), *categories])
    prices = [(name, category, *row) for category, names in demo["merchants"].items() for name, row in names.items()]
    _insert(db, "merchants", [row[:2] for row in prices])
    first = _month(day, -MONTHS)
    _insert(
        db,
        "accounts",
        [(f"OUTSIDE-{code}", "internal", "Outside", code, "", "", "", first.isoformat(), 0) for code in IN_POUNDS],
    )
    entries: list[Booking] = []
    customers: dict[str, _Customer] = {}
    for number, row in enumerate(demo["customers"], 1):
        customer = _Customer(number, row, prices, customers.get(row.get("joint_with")))
        customers[row["id"]] = customer
        customer.save(db, day)
        entries += [entry for entry in customer.entries(first, day) if entry.day <= day]
    entries.sort(key=lambda entry: (entry.day, entry.description, next(iter(entry.postings))))
    closing = {account: minor for customer in customers.values() for account, minor in customer.closing.items()}
    _book(db, entries, closing, first, day)
    db.execute("ANALYZE")


def _book(db: sqlite3.Connection, entries: list[Booking], closing: dict[str, int], first: date, day: date) -> None:
    """Insert what is booked and what is pending. The opening balances are those that lead to the `closing` ones."""
    since = day - timedelta(PENDING_DAYS)
    pending = [entry for entry in entries if entry.kind == "card" and entry.day > since]
    booked = [entry for entry in entries if entry.kind != "card" or entry.day <= since]
    opening = dict(closing)
    for entry in booked:
        for account, minor in entry.postings.items():
            if account in opening:
                opening[account] -= minor
    currency = dict(db.execute("SELECT account_id, currency FROM accounts"))
    begin = [
        Booking(
            first,
            "opening",
            "Opening balance",
            None,
            "opening",
            {account: minor, f"OUTSIDE-{currency[account]}": -minor},
        )
        for account, minor in opening.items()
    ]
    rows, postings = [], []
    for number, entry in enumerate([*begin, *booked], 1):
        entry.number, booked_on = number, entry.day.isoformat()
        refunded = entry.refund_of.number if entry.refund_of else None
        about = (entry.description, entry.counterparty, entry.category)
        rows.append((number, booked_on, entry.kind, *about, "", refunded, *entry.original))
        postings += [(account, booked_on, number, minor) for account, minor in entry.postings.items()]
    _insert(db, "entries", rows)
    _insert(db, "postings", sorted(postings))
    waiting = []
    for number, entry in enumerate(pending, 1):
        account, minor = next(iter(entry.postings.items()))
        about = (entry.description, entry.counterparty, entry.category)
        waiting.append((number, account, entry.day.isoformat(), minor, *about, *entry.original))
    _insert(db, "pending", waiting)


class _Customer:
    def __init__(self, number: int, data: dict[str, Any], prices: list[Any], partner: "_Customer | None") -> None:
        self.number, self.data, self.prices = number, data, prices
        self.account: dict[str, str] = {}
        """Kind → account id."""
        self.currency: dict[str, str] = {}
        self.closing: dict[str, int] = {}
        for index, (kind, currency, _, minor) in enumerate(data["accounts"], 1):
            account = self.account[kind] = f"ACC{number:03}{index:02}"
            self.currency[account], self.closing[account] = currency, minor
        if partner:
            self.account["joint"] = partner.account["joint"]
            self.currency[self.account["joint"]] = partner.currency[self.account["joint"]]
        self.main = self.account["current"]

    def save(self, db: sqlite3.Connection, day: date) -> None:
        """Insert the customer, accounts, cards, payees, standing orders and one scheduled transfer."""
        id_, number, rng = self.data["id"], self.number, Random(self.data["id"])
        _insert(db, "customers", [(id_, self.data["name"])])
        accounts = []
        for index, (kind, currency, overdraft, _) in enumerate(self.data["accounts"], 1):
            account, digits = self.account[kind], f"10{number:04}{index:02}"
            name = "Credit card" if kind == "credit" else f"{kind.capitalize()} account"
            bank = f"DEMO10{number:04}{digits}"
            check = 98 - int("".join(str(int(c, 36)) for c in f"{bank}GB00")) % 97
            opened = date(2016 + number % 8, 3, 10 + index).isoformat()
            row = (
                account,
                kind,
                name,
                currency,
                f"10-00-{number:02}",
                digits,
                f"GB{check:02}{bank}",
                opened,
                overdraft,
            )
            accounts.append(row)
        _insert(db, "accounts", accounts)
        _insert(db, "holders", [(id_, account) for account in self.account.values()])
        cards = []
        for index, (kind, name, status, months, limit, *on) in enumerate(self.data["cards"], 1):
            expires = f"{_month(day, months):%Y-%m}"
            since = (day - timedelta(5 if status in ("lost", "ordered") else 8 + rng.randrange(20))).isoformat()
            account = self.account[on[0] if on else "current"]
            last4 = f"{1000 + rng.randrange(9000)}"
            cards.append((f"CARD{number:03}{index:02}", id_, account, kind, name, last4, status, since, expires, limit))
        _insert(db, "cards", cards)
        payees = []
        for index, name in enumerate(self.data["payees"], 1):
            sort_code = f"{20 + rng.randrange(60)}-{10 + rng.randrange(80)}-{10 + rng.randrange(80)}"
            saved = date(day.year - 1 - index % 3, 1 + rng.randrange(12), 1 + rng.randrange(28)).isoformat()
            digits = f"{10_000_000 + rng.randrange(89_999_999)}"
            payees.append((f"PAY{number:03}{index:02}", id_, name, self.currency[self.main], sort_code, digits, saved))
        _insert(db, "payees", payees)
        orders = []
        for index, (account, kind, name, minor, on_day) in enumerate(self._orders(), 1):
            due = min(d for m in range(2) if (d := _on(_month(day, m), on_day)) > day)
            orders.append((f"SO{number:03}{index:02}", account, kind, name, minor, on_day, due.isoformat(), ""))
        _insert(db, "standing_orders", orders)
        later = (day + timedelta(3 + number % 5)).isoformat()
        scheduled = (f"SCH{number:03}01", id_, self.main, payees[0][0], None, 2500 + 500 * number, later, "", "waiting")
        _insert(db, "scheduled", [scheduled])

    def entries(self, first: date, day: date) -> Iterator[Booking]:
        month = first
        while month <= day:
            yield from self._payments(month, Random(f"{self.data['id']} {month:%Y-%m}"))
            month = _month(month, 1)

    def _payments(self, month: date, rng: Random) -> Iterator[Booking]:
        """All that happens in one month, in an order that does not matter."""
        data = self.data
        for name, minor, on_day, kind, category, *on in data["monthly"]:
            account = self.account[on[0] if on else "current"]
            who = None if kind == "fee" else name
            kind = "card" if kind == "subscription" else kind
            yield self._entry(_on(month, on_day), kind, name, who, category, account, minor)
        for to in ("savings", "joint", "credit"):
            if f"to_{to}" in data:
                minor, on_day = data[f"to_{to}"]
                yield self._own(_on(month, on_day), self.main, self.account[to], minor)
        if "savings" in self.account:
            minor = round(self.closing[self.account["savings"]] * INTEREST / 12 * (0.95 + rng.random() / 10))
            end = _on(month, 31)
            yield self._entry(end, "interest", "Interest", None, "interest", self.account["savings"], minor)
        for on, key in (("current", "habits"), ("joint", "joint_habits"), ("credit", "credit_habits")):
            for name, visits in data.get(key, {}).items():
                for _ in range(int(visits * (0.9 + 0.8 * rng.random()) + rng.random())):
                    yield from self._visit(month, rng, name, self.account[on])
        for name, minor in data["people"].items():
            if rng.random() < 0.7:
                on_day = month + timedelta(rng.randrange(27))
                amount = -minor * (1 + rng.randrange(3))
                yield self._entry(on_day, "transfer", name, name, "payments to people", self.main, amount)
        if currency := data.get("trips", {}).get(str(month.month)):
            yield from self._trip(month, rng, currency)

    def _visit(self, month: date, rng: Random, name: str, account: str) -> Iterator[Booking]:
        day = month + timedelta(rng.randrange(calendar.monthrange(month.year, month.month)[1]))
        if name == "cash":
            amount = -1000 * (2 + rng.randrange(9))
            yield self._entry(day, "cash", "Cash withdrawal", None, "cash", account, amount)
            return
        _, category, least, most, *currency = next(row for row in self.prices if row[0] == name)
        minor = least + int((most - least) * (rng.random() + rng.random()) / 2)
        code = currency[0] if currency else self.currency[account]
        paid, fee = self._card(day, rng, name, category, account, minor, code)
        yield paid
        if fee:
            yield fee
        if rng.random() < RETURNED.get(category, 0):
            back = day + timedelta(4 + rng.randrange(10))
            refund = self._entry(back, "refund", f"{name} refund", name, category, account, -paid.postings[account])
            refund.refund_of = paid
            yield refund

    def _trip(self, month: date, rng: Random, currency: str) -> Iterator[Booking]:
        """A week abroad; with a travel account in that currency it is loaded before, and pays."""
        travel = self.account.get("travel")
        account = travel if travel and self.currency[travel] == currency else self.main
        start = month + timedelta(6 + rng.randrange(12))
        there = [row for row in self.prices if row[4:] == (currency,)]
        spent = 0
        for row in there + [there[rng.randrange(len(there))] for _ in range(5)]:
            minor = row[2] + int((row[3] - row[2]) * (rng.random() + rng.random()) / 2)
            day = start + timedelta(rng.randrange(7))
            paid, fee = self._card(day, rng, row[0], row[1], account, minor, currency)
            spent -= paid.postings[account]
            yield paid
            if fee:
                yield fee
        if account != self.main:
            rate = _rate(currency, self.currency[self.main], rng)
            cost = _convert(spent, currency, self.currency[self.main], rate)
            own = self._own(start - timedelta(1), self.main, account, cost)
            own.postings = {
                self.main: -cost,
                f"OUTSIDE-{self.currency[self.main]}": cost,
                account: spent,
                f"OUTSIDE-{currency}": -spent,
            }
            own.original = (currency, spent, rate)
            yield own

    def _card(
        self, day: date, rng: Random, name: str, category: str, account: str, minor: int, currency: str
    ) -> tuple[Booking, Booking | None]:
        """A card payment, and the fee for a foreign currency."""
        own = self.currency[account]
        if currency == own:
            return self._entry(day, "card", name, name, category, account, -minor), None
        rate = _rate(currency, own, rng)
        charged = _convert(minor, currency, own, rate)
        paid = self._entry(day, "card", name, name, category, account, -charged)
        paid.original = (currency, minor, rate)
        fee = -max(1, round(charged * FOREIGN_FEE))
        return paid, self._entry(day, "fee", "Foreign payment fee", None, "fees", account, fee)

    def _own(self, day: date, source: str, target: str, minor: int) -> Booking:
        return Booking(day, "own_transfer", "Own transfer", None, "own transfers", {source: -minor, target: minor})

    def _entry(
        self, day: date, kind: str, description: str, who: str | None, category: str, account: str, minor: int
    ) -> Booking:
        postings = {account: minor, f"OUTSIDE-{self.currency[account]}": -minor}
        return Booking(day, kind, description, who, category, postings)

    def _orders(self) -> Iterator[tuple[str, str, str, int, int]]:
        for name, minor, on_day, kind, _, *on in self.data["monthly"]:
            if kind in ("standing_order", "direct_debit", "subscription"):
                yield self.account[on[0] if on else "current"], kind, name, -minor, on_day
        for to in ("savings", "joint", "credit"):
            if f"to_{to}" in self.data:
                minor, on_day = self.data[f"to_{to}"]
                name = {"credit": "Credit card payment"}.get(to, f"To {to} account")
                yield self.main, "standing_order", name, minor, on_day


def _insert(db: sqlite3.Connection, table: str, rows: list[Any]) -> None:
    db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)


def _month(day: date, offset: int) -> date:
    """The first day of the month that is `offset` months later."""
    year, month = divmod(12 * day.year + day.month - 1 + offset, 12)
    return date(year, month + 1, 1)


def _on(month: date, day: int) -> date:
    """The day of that month, or its last day if it is shorter; −1: the last day from Monday to Friday."""
    last = calendar.monthrange(month.year, month.month)[1]
    if day > 0:
        return month.replace(day=min(day, last))
    end = month.replace(day=last)
    return end - timedelta(max(0, end.weekday() - 4))


def _rate(original: str, own: str, rng: Random) -> float:
    return round(IN_POUNDS[original] / IN_POUNDS[own] * (0.98 + 0.04 * rng.random()), 5)


def _convert(minor: int, original: str, own: str, rate: float) -> int:
    digits = MINOR_DIGITS.get(own, 2) - MINOR_DIGITS.get(original, 2)
    return round(minor * rate * 10.0**digits)
