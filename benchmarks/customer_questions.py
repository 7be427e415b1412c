"""Questions of customers, from the words to the amount: right, wrong, asked back, or handed over.

    python benchmarks/customer_questions.py [--engine rules|model] [--show]

331 questions were written without sight of any training data (data/customer_questions.jsonl), and read by hand
(data/customer_questions.toml). Each is asked by a customer of a generated ledger who has what the question names. The
calls come from the rules or from the language model, without a deadline. The right answer is computed by SQL from the
reading. An answer is right if it has the same rows or sum; asked back is a question, or a reply that an argument fits
nothing; handed over is every other tool.
"""

import argparse
import json
import sqlite3
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank, create_schema
from bankllm.assistant.bank.ledger import TransactionQuery, open_bank
from bankllm.assistant.bank.tools import Call
from bankllm.assistant.facts import Question, ReadyCall
from bankllm.assistant.language.fallbacks import GenerationFailed
from bankllm.assistant.language.language_model import language_understanding, needs_model, trusted
from bankllm.assistant.tools.spending import counting, sums
from bankllm.assistant.understanding import amounts
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.resolve import resolve
from bankllm.assistant.understanding.rules import Rules
from bankllm.assistant.understanding.tool_head import ToolHead
from bankllm.evidence.statistics.statistic import wilson
from bankllm.settings import get_settings
from bankllm.vectors.embedder import Embedder

DATA = Path(__file__).parent / "data"
READINGS = tomllib.loads((DATA / "customer_questions.toml").read_text("utf-8"))
TODAY: date = READINGS["today"]
NO_DEADLINE_S = 600
FIRST = date(2024, 1, 1)
QUESTIONS = [json.loads(line) for line in (DATA / "customer_questions.jsonl").read_text("utf-8").splitlines()]
AMOUNTS = (7.99, 12.99, 17.50, 25, 40, 63.20, 175, 320)
"""Amounts that questions name, in the currency of the account."""

ORDERED = ("largest", "smallest")
SHOWING = ("spending", "transactions", "balance", "standing_orders")
"""Tools that show amounts."""


def ledger() -> SQLiteBank:
    """Return a bank whose customers have the account by which they are named, besides the first four."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    create_schema(db)
    with closing(open_bank()) as demo:
        assert isinstance(demo, SQLiteBank)
        with demo.writing() as other:
            categories = other.execute("SELECT name, parent FROM categories ORDER BY parent").fetchall()
    db.executemany("INSERT INTO categories VALUES (?, ?)", categories)
    accounts = {name: (kind, currency) for kind, name, currency in READINGS["accounts"].values()}
    base = ["Current account", "Savings account", "Joint account", "Credit card"]
    for number, (name, (kind, currency)) in enumerate(accounts.items()):
        digits = {"Bills 4417": "10004417", "Second account": "10002290"}.get(name, f"2000{number:04}")
        row = (name, kind, name, currency, "10-00-00", digits, f"GB00BANK{digits}", "2020-01-01", 0)
        db.execute("INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        for holder in accounts if name in base else [name]:
            db.execute("INSERT OR IGNORE INTO customers VALUES (?, ?)", (holder, holder))
            db.execute("INSERT INTO holders VALUES (?, ?)", (holder, name))
    for code in ("GBP", "EUR", "USD"):
        row = (f"Outside {code}", "internal", "Outside", code, "", "", "", "2020-01-01", 0)
        db.execute("INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    for number, (day, kind, who, category, account, minor) in enumerate(entries(list(accounts)), 1):
        db.execute(
            "INSERT INTO entries (entry_id, booked, kind, description, counterparty, category) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (number, day.isoformat(), kind, who or category, who, category),
        )
        outside = f"Outside {accounts[account][1]}"
        for side, amount in ((account, minor), (outside, -minor)):
            db.execute("INSERT INTO postings VALUES (?, ?, ?, ?)", (side, day.isoformat(), number, amount))
    return SQLiteBank(db)


def entries(accounts: Sequence[str]) -> Iterator[tuple[date, str, str | None, str, str, int]]:
    """Yield the same payments on every machine: each counterparty every few days, on changing accounts."""
    rng = Random(22)
    named = {**READINGS["counterparties"], "": "cash"}
    sends = {one["means"]["merchant"] for one in QUESTIONS if one["means"]["direction"] == "in"}
    receives = {"Capita": "salary", "DWP": "benefits", "Universal Credit": "benefits", "HMRC": "benefits"}
    for who, category in named.items():
        day = FIRST
        while (day := day + timedelta(1 + rng.randrange(7))) <= TODAY:
            account = accounts[rng.randrange(4)] if rng.random() < 0.8 else accounts[rng.randrange(len(accounts))]
            minor = round(100 * (rng.choice(AMOUNTS) if rng.random() < 0.2 else rng.uniform(2, 90)))
            back = who in sends and rng.random() < 0.5
            kind = "credit" if back else "card" if who else "cash"
            kind_category = receives.get(who, "other income") if back else category
            yield day, kind, who or None, kind_category, account, minor if back else -minor
    month = FIRST
    while month <= TODAY:
        yield month.replace(day=25), "credit", "Capita", "salary", accounts[0], 250_000
        yield month.replace(day=1), "standing_order", "Mr Gallagher", "rent", accounts[0], -90_000
        yield month.replace(day=28), "interest", None, "interest", accounts[1], 1_234 + month.month
        yield month.replace(day=20), "fee", None, "fees", accounts[0], -350
        month = (month + timedelta(31)).replace(day=1)


def readings(means: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the right arguments of a question, one set for each reading."""
    if means["tool"] == "standing_orders":
        yield {}
        return
    fixed: dict[str, Any] = {}
    if means["merchant"]:
        key = means["merchant"]
        named = {name.casefold().replace("'", ""): name for name in READINGS["counterparties"]}
        fixed["merchant"] = READINGS["spelled"].get(key) or named[key.casefold().replace("'", "")]
    category: list[Any] = [None]
    if means["category"] and not means["merchant"]:
        category = READINGS["categories"].get(means["category"], [means["category"].lower()])
    if means["account"] and means["account"] not in ("all my accounts", "current + savings"):
        fixed["account_id"] = READINGS["accounts"][means["account"]][1]
    for bound in ("minimum", "maximum"):
        if means[bound]:
            money = amounts.amount(means[bound])
            fixed[f"{bound}_minor"] = money.amount_minor if money else round(100 * float(means[bound].split()[0]))
    fixed |= {name: means[name] for name in ("order", "limit", "direction") if means[name]}
    options: list[dict[str, Any]] = [{}]
    if means["tool"] == "transactions":  # a list may also hold the payments beside those that were meant
        beside = (means["direction"] == "out" or means["merchant"]) and means["order"] not in ORDERED
        options += [{"direction": None}] if beside else []
        options += [{"minimum_minor": None, "maximum_minor": None}] if means["minimum"] == means["maximum"] else []
        options += [{name: None for option in options for name in option}]
        options += [{"direction": "out", "minimum_minor": None, "maximum_minor": None}] if means["minimum"] else []
    periods = READINGS["periods"][means["period_words"]] if means["period_words"] else [""]
    for one, days, more in product(category, periods, options):
        first, _, last = days.partition(" ")
        dates = {"date_from": first, "date_to": last or first} if first else {}
        named = {} if one is None else {"merchant": one} if one in READINGS["counterparties"] else {"category": one}
        yield fixed | named | dates | more


def answer(bank: SQLiteBank, customer: str, tool: str, arguments: dict[str, Any]) -> Any:
    """Return what a tool would show: sums, rows, or balances."""
    if tool == "balance":
        accounts = bank.accounts(customer, arguments.get("date_to") or arguments.get("date"))
        only = arguments.get("account_id")
        return [(one.account_id, one.balance_minor) for one in accounts if only in (None, one.account_id)]
    if tool == "standing_orders":
        return "all"
    known = {name: value for name, value in arguments.items() if name in TransactionQuery.__dataclass_fields__}
    query = TransactionQuery(**known)
    if tool == "spending":
        rows = bank.transactions(customer, replace(query, direction=None, limit=None))
        return [(total.currency, total.amount_minor) for total in sums(counting(rows, query), query)]
    return [
        (row.account_id, row.booked, row.amount_minor, row.counterparty) for row in bank.transactions(customer, query)
    ]


def outcome(bank: SQLiteBank, customer: str, means: dict[str, Any], ready: Sequence[ReadyCall | Question]) -> str:
    if any(isinstance(one, Question) or one.unread for one in ready):
        return "asked back"
    shown = [one for one in ready if isinstance(one, ReadyCall) and one.tool in SHOWING]
    if not shown:
        return "handed over"
    tool = shown[0].tool
    right = [answer(bank, customer, tool, reading) for reading in readings(means)]
    got = answer(bank, customer, tool, dict(shown[0].arguments))
    if means["limit"] == 1 and isinstance(got, list):  # a list that begins with the payment that was asked for
        got, right = got[:1], [rows[:1] for rows in right]
    if means["tool"] == tool == "balance" and len(shown) > 1:
        got = [one for call in shown for one in answer(bank, customer, tool, dict(call.arguments))]
        return "right" if means["account"] == "current + savings" and len(got) == 2 else "wrong"
    if len(shown) > 1 and tool == "spending" == means["tool"]:  # two months, each with its sum
        sums = [dict(answer(bank, customer, tool, dict(one.arguments))) for one in shown]
        got = [(code, sum(part.get(code, 0) for part in sums)) for code, _ in right[0]] if right else []
        return "right" if got in right else "wrong"
    if len(shown) > 1 or got not in right:
        return "wrong"
    if tool == means["tool"]:
        return "right"
    return "right payments as another tool" if {tool, means["tool"]} == {"spending", "transactions"} else "wrong"


def proposed(engine: str, views: Sequence[CustomerView]) -> Iterator[list[Call]]:
    """Yield the calls for each question; of what the model leaves unread, those of the rules, as in the service."""
    embedder, head = Embedder(), ToolHead.load()
    changed = {"understanding": engine, "reply_timeout_s": NO_DEADLINE_S}
    model = language_understanding(get_settings().model_copy(update=changed))
    for question, view in zip(QUESTIONS, views, strict=True):
        messages, rules = [question["message"]], Rules(head, embedder.encode, TODAY, view)
        found = rules.propose(messages)
        if model is not None and needs_model(messages, rules, found):
            try:
                found = trusted(model.written(messages), messages, rules, found)
            except GenerationFailed as failure:
                print(f"read by rules ({failure.reason}): {question['message']}")
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("rules", "model"), default="rules")
    parser.add_argument("--show", action="store_true", help="print the questions that are not right")
    arguments = parser.parse_args()
    bank = ledger()
    customers = [READINGS["accounts"].get(row["means"]["account"], ["", "Current account"])[1] for row in QUESTIONS]
    known = {customer: CustomerView.of(bank, customer) for customer in set(customers)}
    views = [known[customer] for customer in customers]
    counts: Counter[str] = Counter()
    for row, customer, view, found in zip(QUESTIONS, customers, views, proposed(arguments.engine, views), strict=True):
        ready = resolve(found, view, TODAY, row["message"])
        result = outcome(bank, customer, row["means"], ready)
        counts[result] += 1
        if arguments.show and result != "right":
            print(f"{result}: {row['message']}")
            for one in ready:
                print("   ", one.text if isinstance(one, Question) else (one.tool, one.arguments, one.unread))
    for name, count in counts.most_common():
        share = wilson(count, len(QUESTIONS))
        print(f"{name:28}{count:4} of {len(QUESTIONS)}  {share.value:.3f}  {share.ci95}")


if __name__ == "__main__":
    main()
