"""The reading tools agree with SQL on the ledger's tables, and say what they understood."""

import itertools
import random
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bankllm.assistant.bank.backends.demo_bank import CUSTOMERS
from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.assistant.bank.ledger import format_money
from bankllm.assistant.facts import TOOLS, Facts, ReadyCall, Request
from bankllm.assistant.tools.together import together

OCTOBER = {"date_from": "2026-10-01", "date_to": "2026-10-31"}
YEAR = {"date_from": "2026-01-01", "date_to": "2026-11-29"}
PERIODS: list[dict[str, str]] = [
    {},
    OCTOBER,
    {"date_from": "2026-10-31", "date_to": "2026-10-31"},
    YEAR,
    {"date_to": "2026-03-31"},
    {"date_from": "2026-11-20", "date_to": "2026-11-29"},
]


def ask(bank: SQLiteBank, tool: str, customer: str = "CUST001", message: str = "…", **arguments: Any) -> Facts:
    return TOOLS.get(tool)(Request(message, customer, ReadyCall(tool, arguments)), bank)


@cache
def rows_of(file: Path, customer: str) -> list[tuple[Any, ...]]:
    """Booked and pending rows from the base tables."""
    sql = """
        SELECT day, amount, currency, kind, counterparty, category, parent, account_id FROM (
            SELECT e.booked AS day, p.amount_minor AS amount, e.kind, e.counterparty, e.category, p.account_id
            FROM entries e JOIN postings p ON p.entry_id = e.entry_id
            UNION ALL
            SELECT authorised, amount_minor, 'card', counterparty, category, account_id FROM pending)
        JOIN (SELECT account_id, currency FROM accounts) USING (account_id)
        JOIN (SELECT name AS category, parent FROM categories) USING (category)
        JOIN holders USING (account_id) WHERE customer_id = ? AND kind <> 'opening'"""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql, (customer,)).fetchall()


def select(file: Path, customer: str, arguments: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    """Day, amount, currency and kind of the rows that a call is about."""
    return [
        (day, amount, currency, kind)
        for day, amount, currency, kind, counterparty, category, parent, account in rows_of(file, customer)
        if arguments.get("merchant") in (None, counterparty)
        and arguments.get("category") in (None, category, parent)
        and arguments.get("date_from", "") <= day <= arguments.get("date_to", "9")
        and arguments.get("account_id") in (None, account)
        and abs(amount) >= arguments.get("minimum_minor", 0)
    ]


def questions(bank: SQLiteBank, count: int) -> list[tuple[str, dict[str, Any]]]:
    generator = random.Random(22)
    asked = []
    for _ in range(count):
        customer = generator.choice(CUSTOMERS)
        arguments: dict[str, Any] = dict(generator.choice(PERIODS))
        about = generator.choice(("merchant", "category", None))
        if about:
            arguments[about] = generator.choice(bank.merchants(customer) if about == "merchant" else bank.categories())
        if generator.random() < 0.2:
            arguments["account_id"] = generator.choice(bank.accounts(customer)).account_id
        asked.append((customer, arguments))
    return asked


def test_a_sum_agrees_with_sql(bank: SQLiteBank, ledger: Path) -> None:
    found = 0
    for customer, arguments in questions(bank, 250):
        for direction in ("in", "out"):
            facts = ask(bank, "spending", customer, direction=direction, **arguments)
            about = next((a for a in bank.accounts(customer) if a.account_id == arguments.get("account_id")), None)
            own = about is not None and (about.kind == "savings" or direction == "in")
            own = own or arguments.get("category") == "own transfers"
            rows = [row for row in select(ledger, customer, arguments) if own or row[3] != "own_transfer"]
            refunds = direction == "in" and "merchant" in arguments
            rows = [row for row in rows if (direction == "in") == (row[1] > 0 and (row[3] != "refund" or refunds))]
            expected = {
                currency: abs(sum(amount for _, amount, code, _ in rows if code == currency))
                for currency in {row[2] for row in rows}
            }
            assert facts.result is not None
            totals = {total["currency"]: abs(total["amount_minor"]) for total in facts.result["totals"]}
            assert totals == (expected or {next(iter(totals)): 0}), (customer, direction, arguments)
            assert all(format_money(minor, currency) in facts.text for currency, minor in expected.items())
            assert bool(rows) != ("I found no" in facts.text)
            by_month = sum(month["amount_minor"] for month in facts.result["by_month"])
            assert by_month == sum(total["amount_minor"] for total in facts.result["totals"])
            assert set(facts.sources) <= {f"ledger:{a.account_id}" for a in bank.accounts(customer)}
            found += bool(rows)
    assert found > 150


def test_a_list_agrees_with_sql(bank: SQLiteBank, ledger: Path) -> None:
    for (customer, arguments), order in zip(
        questions(bank, 200), itertools.cycle(("newest", "oldest", "largest", "smallest")), strict=False
    ):
        arguments["minimum_minor"] = 1500
        facts = ask(bank, "transactions", customer, direction="out", order=order, **arguments)
        rows = [row for row in select(ledger, customer, arguments) if row[1] < 0]
        assert facts.result is not None
        assert facts.result["count"] == min(len(rows), 100)
        shown = [(row["booked"], row["amount_minor"]) for row in facts.result["rows"]]
        assert set(shown) <= {row[:2] for row in rows}
        key = {"newest": 0, "oldest": 0, "largest": 1, "smallest": 1}[order]
        values = [abs(row[key]) if key else row[key] for row in shown]
        assert values == sorted(values, reverse=order in ("newest", "largest"))
        if rows:
            best = (max if order in ("newest", "largest") else min)(abs(r[1]) if key else r[0] for r in rows)
            assert values[0] == best


def test_a_balance_agrees_with_sql(bank: SQLiteBank, ledger: Path) -> None:
    sql = "SELECT SUM(amount_minor) FROM postings WHERE account_id = ? AND booked <= ?"
    for customer, day in itertools.product(CUSTOMERS, ("2026-11-29", "2026-10-03", "2025-09-30")):
        facts = ask(bank, "balance", customer, date=day)
        assert facts.result is not None
        assert len(facts.result["rows"]) == len(bank.accounts(customer))
        for row in facts.result["rows"]:
            with closing(sqlite3.connect(ledger)) as connection:
                (expected,) = connection.execute(sql, (row["account_id"], day)).fetchone()
            assert row["balance_minor"] == expected
            assert f"{row['name']} {format_money(expected, row['currency'])}" in facts.text


@pytest.mark.parametrize(
    ("tool", "customer", "arguments", "text", "line"),
    [
        (
            "balance",
            "CUST005",
            {"account_id": "ACC00503"},
            "Your account balance is: Credit card -£640.25 (£1,796.29 available with your credit limit, after "
            "pending payments).",
            "Credit card ending 0503: balance -£640.25, available £1,796.29",
        ),
        (
            "balance",
            "CUST001",
            {"account_id": "ACC00102", "date": "2026-10-03"},
            "Your account balance at the end of 3 October 2026 was: Savings account £2,675.56.",
            "Savings account ending 0102: balance on 3 October 2026 £2,675.56",
        ),
        (
            "balance",
            "CUST002",
            {"date": "2020-01-01"},
            "I have no balance of your Current account at the end of 1 January 2020: the records begin later.",
            "",
        ),
        (
            "spending",
            "CUST001",
            {"category": "groceries", **OCTOBER},
            "You spent £532.86 on groceries in October 2026 (1 to 31 October), in 15 payments.",
            "Spent on groceries, 1 October 2026 to 31 October 2026: £532.86 in 15 payments",
        ),
        (
            "spending",
            "CUST001",
            {"merchant": "Zalando", **OCTOBER},
            "I found no payments to Zalando in October 2026 (1 to 31 October).",
            "Spent at Zalando, 1 October 2026 to 31 October 2026: £0.00 in 0 payments",
        ),
        (
            "spending",
            "CUST001",
            {"merchant": "Next"},
            "You spent £920.53 at Next since 29 August 2025, in 18 payments. That is £1,036.70 paid, less £116.17 from "
            "2 refunds.",
            "Refunds, already taken off: £116.17 in 2 refunds",
        ),
        (
            "spending",
            "CUST001",
            {"merchant": "Mum", "date_from": "2026-01-01", "date_to": "2026-12-31"},
            "You paid £1,090.00 to Mum in 2026 (1 January to 31 December), in 10 payments.",
            "",
        ),
        (
            "transactions",
            "CUST001",
            {"order": "largest", "limit": 1, **OCTOBER},
            "Your largest payment out in October 2026 (1 to 31 October): 1 October 2026 Okonkwo Lettings -£920.00.",
            "57 transactions, 1 October 2026 to 31 October 2026; the largest: 1 October 2026 Okonkwo Lettings -£920.00",
        ),
        (
            "transactions",
            "CUST001",
            {"minimum_minor": 5000, "currency": "USD"},
            "I found no transactions of $50.00 or more. You have no account in USD, only in GBP.",
            "",
        ),
        (
            "transactions",
            "CUST011",
            {"date_from": "2026-10-22", "date_to": "2026-10-22"},
            "- 22 October 2026 Own transfer -£76.82\n- 22 October 2026 Own transfer +€90.00\n",
            "5 transactions, 22 October 2026, newest first: ",
        ),
        (
            "transactions",
            "CUST001",
            {"merchant": "Chez Marie"},
            "- 14 August 2026 Chez Marie -£31.79 (€37.44)\n",
            "3 transactions at Chez Marie, since 19 August 2025, newest first: 14 August 2026",
        ),
        (
            "card_status",
            "CUST001",
            {"card_id": "CARD00102"},
            "Your card Mastercard Travel ending 6784: frozen since 16 November 2026, limit £500.00 a day.",
            "Debit card ending 6784: frozen since 16 November 2026",
        ),
        (
            "spending",
            "CUST009",
            {"merchant": "Amazon", "direction": "in", **YEAR},
            "You received $342.14 from Amazon from 1 January to 29 November 2026, in 7 refunds.",
            "$342.14 in 7 refunds",
        ),
        (
            "spending",
            "CUST001",
            {"kind": "refund", **YEAR},
            "You received £217.34 from 1 January",
            "£217.34 in 4 refunds",
        ),
        (
            "transactions",
            "CUST005",
            {"kind": "refund", "merchant": "Gap"},
            "2 refunds at Gap since 10 March 2026, £65.70 in all, the latest first:\n- 13 April 2026 Gap refund",
            "",
        ),
        (
            "spending",
            "CUST006",
            {"merchant": "Flat 4 Kitty", "direction": "in", **YEAR},
            "I found no money received from Flat 4 Kitty from 1 January to 29 November 2026. You paid £310.00 to",
            "Sent to Flat 4 Kitty, 1 January 2026 to 29 November 2026: £310.00 in 9 payments",
        ),
        (
            "transactions",
            "CUST004",
            {"merchant": "Calder Engineering", "direction": "out", "limit": 1},
            "Your latest payment in from Calder Engineering since 28 August 2025: 28 November 2026 Calder Engineering "
            "+£2,394.60.",
            "",
        ),
        (
            "standing_orders",
            "CUST001",
            {"date_from": "2026-12-03", "date_to": "2027-01-02"},
            "You have 9 regular payments and 1 scheduled transfer due from 3 December 2026 to 2 January 2027, "
            "£1,479.37 in all, the next one first:\n- Scheduled transfer: Siobhan O'Leary £30.00 on 3 December 2026\n",
            "Okonkwo Lettings £920.00 on 1 January 2027; To savings account £150.00 on 2 January 2027",
        ),
        (
            "standing_orders",
            "CUST003",
            {"date_from": "2026-11-29", "date_to": "2026-11-30"},
            "You have no standing orders, direct debits, subscriptions or scheduled transfers due from 29 to 30 "
            "November 2026.",
            "",
        ),
        (
            "standing_orders",
            "CUST001",
            {},
            "You have 9 regular payments (£1,449.37 a month) and 1 scheduled transfer, the next one first:\n- Standing "
            "order: Okonkwo Lettings £920.00 monthly, next 1 December 2026\n",
            "9 regular payments (£1,449.37 a month) and 1 scheduled transfer: Okonkwo Lettings £920.00 monthly, next 1 "
            "December 2026; To savings account £150.00",
        ),
    ],
)
def test_a_reply_says_what_was_understood(
    bank: SQLiteBank, tool: str, customer: str, arguments: dict[str, Any], text: str, line: str
) -> None:
    facts = ask(bank, tool, customer, **arguments)
    assert text in facts.text
    assert line in "\n".join(facts.lines)


def test_account_numbers_reach_no_language_model(bank: SQLiteBank) -> None:
    facts = ask(bank, "account_details")
    assert "sort code 10-00-01, account number 10000101, IBAN GB47DEMO10000110000101" in facts.text
    assert facts.lines == ()


def test_names_of_merchants_are_data(bank: SQLiteBank) -> None:
    for name in bank.merchants("CUST001"):
        if name.startswith(("Ignore previous", "<b>")):
            assert f" at {name} since " in ask(bank, "spending", merchant=name).text


def test_without_conditions_the_call_says_how_many(bank: SQLiteBank) -> None:
    for limit, count in ({"limit": 2}, 2), ({}, 5):
        facts = ask(bank, "transactions", "CUST001", "…", **limit)
        assert facts.result is not None
        assert facts.result["count"] == count
    months = ask(bank, "transactions", message="transactions for the last 3 months", date_from="2026-08-29")
    assert months.result is not None
    assert months.result["count"] == 100


def test_sums_of_merchants_or_months_are_added_up_where_no_payment_is_in_two(bank: SQLiteBank) -> None:
    def total(message: str, *asked: dict[str, str]) -> Facts | None:
        calls = [Request(message, "CUST001", ReadyCall("spending", one)) for one in asked]
        return together([(call, TOOLS.get("spending")(call, bank)) for call in calls])

    both = [{"merchant": name, **OCTOBER} for name in ("Tesco", "Shell")]
    sums = [ask(bank, "spending", **one).result for one in both]
    amount = sum(one["totals"][0]["amount_minor"] for one in sums if one)
    count = sum(one["totals"][0]["count"] for one in sums if one)
    found = total("Tesco and Shell in October", *both)
    assert found
    assert found.text.startswith(f"Together that is {format_money(amount, 'GBP')} in {count} payments")
    assert total("in total", both[0], {"category": "groceries", **OCTOBER}) is None
    assert total("in total", both[0], {"category": "fuel", **OCTOBER})
    assert total("in total", OCTOBER, YEAR) is None


def test_payments_in_a_foreign_currency_and_of_an_exact_amount(bank: SQLiteBank) -> None:
    facts = ask(bank, "spending", foreign="EUR", date_from="2026-08-01", date_to="2026-08-31")
    assert facts.text.startswith("You spent £515.75 in EUR in August 2026 (1 to 31 August), in 12 payments.")
    assert facts.text.endswith("That was €600.05. I cannot tell where you paid.")
    exact = ask(bank, "transactions", minimum_minor=2499, maximum_minor=2499, **OCTOBER)
    assert exact.text.startswith("Your only transaction of exactly £24.99 in October 2026")


@pytest.mark.parametrize("tool", ["spending", "transactions"])
def test_a_period_before_the_records_is_said(bank: SQLiteBank, tool: str) -> None:
    text = ask(bank, tool, date_from="2024-02-01", date_to="2024-02-29").text
    assert text.endswith("The records of your payments begin on 1 August 2025.")
    assert "begin" not in ask(bank, tool, **OCTOBER).text


@pytest.mark.parametrize(
    ("arguments", "where", "number", "text"),
    [
        (
            {"category": "groceries", "per": "month", "date_to": "2026-10-31"},
            "category = 'groceries' AND booked BETWEEN '2025-11-01' AND '2026-10-31'",
            12,
            " a month on average over 12 months: 15.8 payments a month, of £32.27 on average.",
        ),
        (
            {"merchant": "Tesco", "per": "week", "date_to": "2026-11-22"},
            "counterparty = 'Tesco' AND booked BETWEEN '2025-11-24' AND '2026-11-22'",
            52,
            " a week on average over 52 weeks: ",
        ),
        (
            {"merchant": "Netflix", "per": "month", **OCTOBER},
            "counterparty = 'Netflix' AND booked LIKE '2026-10-%'",
            1,
            " a month on average over 1 month: 1 payment a month, of £10.99 on average.",
        ),
        (
            {"per": "payment", "without": [{"category": "rent"}, {"merchant": "Tesco"}], **OCTOBER},
            "category <> 'rent' AND COALESCE(counterparty, '') <> 'Tesco' AND booked LIKE '2026-10-%'",
            None,
            " for each payment on average.",
        ),
    ],
)
def test_an_average_agrees_with_sql(
    bank: SQLiteBank, ledger: Path, arguments: dict[str, Any], where: str, number: int | None, text: str
) -> None:
    facts = ask(bank, "spending", **arguments)
    sql = (
        "SELECT -SUM(amount_minor), -SUM(CASE WHEN kind = 'refund' THEN 0 ELSE amount_minor END), SUM(kind <> 'refund')"
        " FROM transactions JOIN holders USING (account_id) WHERE customer_id = 'CUST001' AND kind <> 'own_transfer'"
        f" AND (amount_minor < 0 OR kind = 'refund') AND {where}"
    )
    with closing(sqlite3.connect(ledger)) as connection:
        total, paid, count = connection.execute(sql).fetchone()
    assert facts.result is not None
    (average,) = facts.result["averages"]
    assert facts.result["totals"][0]["amount_minor"] == total
    assert average["payments"] == count
    assert average["payment_minor"] == round(paid / count)
    assert average.get("amount_minor") == (round(total / number) if number else None)
    shown = average["amount_minor" if number else "payment_minor"]
    assert f"That is {format_money(shown, 'GBP')}{text}" in facts.text
    assert format_money(shown, "GBP") in "\n".join(facts.lines)


def test_a_short_period_has_no_average(bank: SQLiteBank) -> None:
    days: dict[str, Any] = {"date_from": "2026-11-20", "date_to": "2026-11-29"}
    assert "less than one month, so that I give no average" in ask(bank, "spending", per="month", **days).text
    assert "average" not in ask(bank, "spending", "CUST001", "…", per="month", merchant="Zalando").text


def test_a_list_without_a_part(bank: SQLiteBank) -> None:
    facts = ask(bank, "transactions", category="groceries", without=[{"merchant": "Tesco"}], **OCTOBER)
    assert facts.text.startswith("You have 10 transactions on groceries without Tesco in October 2026")
    assert facts.result is not None
    assert "Tesco" not in {row["description"] for row in facts.result["rows"]}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"by": "shop"}, "Most went to Tesco (£305.27), then Amazon (£151.72), Lidl (£131.40)."),
        ({"by": "category", "limit": 1}, "Most went on rent (£920.00)."),
        ({"by": "merchant", "order": "smallest", "limit": 1}, "Least went to "),
        ({"by": "merchant", "direction": "in", "limit": 1}, "Most came from Northgate Logistics (£3,266.00)."),
    ],
)
def test_the_names_with_the_largest_sums(bank: SQLiteBank, arguments: dict[str, Any], text: str) -> None:
    facts = ask(bank, "spending", **arguments, **OCTOBER)
    assert text in facts.text
    assert facts.result is not None
    assert facts.result[f"by_{arguments['by']}"]


@pytest.mark.parametrize(
    ("message", "first", "second", "text"),
    [
        (
            "how much more in October than September",
            OCTOBER,
            {"date_from": "2026-09-01", "date_to": "2026-09-30"},
            "That is £204.30 less in October 2026 (1 to 31 October) than in September 2026 (1 to 30 September).",
        ),
        (
            "more on coffee or takeaways",
            {"category": "takeaways", **OCTOBER},
            {"category": "coffee", **OCTOBER},
            "That is £0.91 more on takeaways than on coffee.",
        ),
        (
            "coffee and takeaways",
            {"category": "takeaways", **OCTOBER},
            {"category": "coffee", **OCTOBER},
            "Together that is £143.75 in 13 payments.",
        ),
        (
            "more in or out",
            {"direction": "in", **OCTOBER},
            {"direction": "out", **OCTOBER},
            "That is £487.89 more in than out.",
        ),
        ("more in or out", {"direction": "out", **OCTOBER}, OCTOBER, None),
    ],
)
def test_the_difference_of_two_sums(
    bank: SQLiteBank, message: str, first: dict[str, str], second: dict[str, str], text: str | None
) -> None:
    requests = [Request(message, "CUST001", ReadyCall("spending", one)) for one in (first, second)]
    found = together([(one, TOOLS.get("spending")(one, bank)) for one in requests])
    assert (found and found.text) == text


def test_a_question_about_the_overdraft_gets_its_limit(bank: SQLiteBank) -> None:
    said = "what is my overdraft limit"
    assert "The overdraft limit of your Current account is £1,000.00, of which you use £0.00." in (
        ask(bank, "balance", message=said).text
    )
    assert "The credit limit of your Credit card is £2,500.00, of which you use £640.25." in (
        ask(bank, "balance", "CUST005", message=said, account_id="ACC00503").text
    )
    assert "no arranged overdraft" in ask(bank, "balance", message=said, account_id="ACC00102").text
    assert "limit" not in ask(bank, "balance", message="what is my balance").text
