"""Copied words become values of the customer's own, or one question; an action is never a guess."""

from dataclasses import replace
from datetime import date
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from bankllm.assistant.bank.tools import call_schemas
from bankllm.assistant.facts import Question, ReadyCall
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.orders import changed_order
from bankllm.assistant.understanding.question_answers import answered
from bankllm.assistant.understanding.resolve import REQUIRED, resolve


def one(customer: CustomerView, today: date, tool: str, **words: str) -> ReadyCall | Question:
    """Resolve one call; `from_` stands for `from`."""
    call = {"tool": tool} | {name.rstrip("_"): value for name, value in words.items()}
    (found,) = resolve([call], customer, today)
    return found


@pytest.mark.parametrize(
    ("tool", "words", "arguments"),
    [
        (
            "spending",
            {"merchant": "tesco", "period": "in october"},
            {"merchant": "Tesco", "date_from": "2026-10-01", "date_to": "2026-10-31"},
        ),
        ("spending", {"period": "since payday"}, {"date_from": "2026-11-25", "date_to": "2026-11-29"}),
        ("spending", {"period": "before March"}, {"date_to": "2026-02-28"}),
        ("spending", {"category": "food shopping"}, {"category": "groceries"}),
        ("spending", {"category": "petrol"}, {"category": "fuel"}),
        ("spending", {"merchant": "the chemist"}, {"category": "pharmacy"}),
        ("spending", {"category": "nandos"}, {"merchant": "Nando's"}),
        ("spending", {"category": "pubs", "merchant": "spoons"}, {"merchant": "Wetherspoon"}),
        ("spending", {"account": "joint", "direction": "in"}, {"account_id": "A3", "direction": "in"}),
        ("spending", {"account": "all my accounts", "category": "petrol"}, {"category": "fuel"}),
        ("balance", {"account": "main account"}, {"account_id": "A1"}),
        ("balance", {"account": "mine"}, {"account_id": "A1"}),
        ("balance", {"account": "ending 5672"}, {"account_id": "A2"}),
        ("balance", {"account": "euro account"}, {"account_id": "A4"}),
        ("balance", {"date": "end of last month"}, {"date": "2026-10-31"}),
        ("balance", {"date": "last week"}, {"date": "2026-11-22"}),
        (
            "transactions",
            {"minimum": "a tenner", "maximum": "£20.50", "limit": "five", "order": "largest"},
            {"minimum_minor": 1000, "maximum_minor": 2050, "currency": "GBP", "limit": 5, "order": "largest"},
        ),
        (
            "transfer",
            {"amount": "fifty quid", "to": "mom", "date": "friday", "reference": "<b>"},
            {"amount_minor": 5000, "currency": "GBP", "payee_id": "P0", "date": "2026-12-04", "reference": "<b>"},
        ),
        (
            "transfer",
            {"amount": "2k", "from_": "savings", "to": "joint"},
            {"amount_minor": 200000, "from_account_id": "A2", "to_account_id": "A3"},
        ),
        ("transfer", {"amount": "5", "to": "siobhan oleary"}, {"amount_minor": 500, "payee_id": "P3"}),
        ("freeze_card", {"card": "my visa"}, {"card_id": "C1"}),
        ("freeze_card", {"card": "1111"}, {"card_id": "C2"}),
        ("freeze_card", {}, {"card_id": "C1"}),
        ("unfreeze_card", {}, {"card_id": "C2"}),
        ("report_card", {"kind": "stolen", "card": "joint"}, {"kind": "stolen", "card_id": "C2"}),
        ("set_limit", {"card": "visa", "amount": "£300"}, {"card_id": "C1", "amount_minor": 30000, "currency": "GBP"}),
        ("knowledge", {"question": "what is an IBAN"}, {"question": "what is an IBAN"}),
    ],
)  # fmt: skip
def test_words_become_values(
    customer: CustomerView, today: date, tool: str, words: dict[str, str], arguments: dict[str, Any]
) -> None:
    assert one(customer, today, tool, **words) == ReadyCall(tool, arguments)


@pytest.mark.parametrize(
    ("tool", "words", "unread"),
    [
        ("spending", {"merchant": "Lidl"}, "There is no merchant “Lidl” in your accounts."),
        ("spending", {"merchant": "APP HAS LOGGED ME OUT"}, "I did not understand “APP HAS LOGGED ME OUT”."),
        ("transactions", {"category": "<script>"}, "There is no category “<script>” in your accounts."),
        ("balance", {"account": "ISA"}, "You have no account “ISA”. You have: Current account, Savings account,"),
    ],
)
def test_a_reading_tool_says_what_fits_nothing(
    customer: CustomerView, today: date, tool: str, words: dict[str, str], unread: str
) -> None:
    found = one(customer, today, tool, **words)
    assert isinstance(found, ReadyCall)
    assert found.unread[0].startswith(unread)


@pytest.mark.parametrize(
    ("tool", "words", "slot", "text", "options"),
    [
        ("spending", {"merchant": "pret"}, "merchant", "Which “pret” do you mean: Pret North or Pret South?", 2),
        ("spending", {"category": "food"}, "category", "Which “food” do you mean: groceries or eating out?", 2),
        ("spending", {"category": "car insurance"}, "category", "“car insurance”. Do you mean insurance?", 1),
        ("spending", {"period": "since I moved out"}, "period", "Which days do you mean by “since I moved out”?", 0),
        ("spending", {"period": "the 31st of February"}, "period", "February 2026 has no day 31", 0),
        ("spending", {"period": "next month"}, "period", "begins on 2026-12-01", 0),
        ("spending", {"period": "between 9 and 3 May"}, "period", "an end after the beginning", 0),
        ("balance", {"date": "tomorrow"}, "date", "is 30 November 2026, which is in the future", 0),
        ("transactions", {"minimum": "$50"}, "minimum", "You have no account in USD, only in EUR, GBP", 0),
        ("transactions", {"minimum": "£100", "maximum": "£20"}, "maximum", "No amount is above £100 and below £20", 0),
        ("transactions", {"limit": "0"}, "limit", "How many payments", 0),
        ("transfer", {}, "amount", "How much do you want to transfer?", 0),
        ("transfer", {"amount": "50"}, "to", "Who do you want to pay: Mum, Anna Smith,", 6),
        ("transfer", {"amount": "50", "to": "anna"}, "to", "Which “anna” do you mean: Anna Smith or Anna Müller?", 2),
        ("transfer", {"amount": "50", "to": "raj"}, "to", "Raj ending 4324 or Raj ending 4325?", 2),
        ("transfer", {"amount": "50", "to": "ana smith"}, "to", "payee “ana smith”. Do you mean Anna Smith?", 1),
        ("transfer", {"amount": "50", "to": "my brother"}, "to", "You have no saved payee “my brother”. Who do", 6),
        ("transfer", {"amount": "50", "to": "<img src=x>"}, "to", "You have no saved payee “<img src=x>”.", 6),
        ("transfer", {"amount": "10.505", "to": "mum"}, "amount", "at most 2 decimals", 0),
        ("transfer", {"amount": "1000000000000", "to": "mum"}, "amount", "up to 1,000,000,000", 0),
        ("transfer", {"amount": "-5", "to": "mum"}, "amount", "above zero", 0),
        ("transfer", {"amount": "$50", "to": "mum"}, "amount", "You have no account in USD, only in EUR, GBP.", 0),
        ("transfer", {"amount": "a bit", "to": "mum"}, "amount", "Which amount do you mean by “a bit”?", 0),
        ("transfer", {"amount": "5", "to": "mum", "date": "yesterday"}, "date", "which is over", 0),
        ("transfer", {"amount": "5", "to": "mum", "date": "31 June"}, "date", "June 2027 has no day 31", 0),
        ("transfer", {"amount": "5", "to": "savings", "from_": "savings"}, "from", "stay in the same account", 0),
        ("transfer", {"amount": "5", "to": "mum", "from_": "isa"}, "from", "Which account do you mean by “isa”", 4),
        ("report_card", {"card": "visa"}, "kind", "What happened to the card: lost or stolen?", 2),
        ("transactions", {"account": "not the joint"}, "account", "Current account, Savings account or EUR travel", 3),
        ("spending", {"direction": "in"}, "period", "For which days do you want to know it?", 0),
        ("freeze_card", {"card": "amex"}, "card", "You have no card “amex”. Which card do you mean: Visa", 2),
        ("set_limit", {"card": "visa"}, "amount", "What is the new limit?", 0),
    ],
)  # fmt: skip
def test_what_is_missing_or_unclear_is_asked(
    customer: CustomerView, today: date, tool: str, words: dict[str, str], slot: str, text: str, options: int
) -> None:
    found = one(customer, today, tool, **words)
    assert isinstance(found, Question)
    assert (found.slot, len(found.options)) == (slot, options)
    assert text in found.text


@pytest.mark.parametrize(
    ("words", "answer", "payee"),
    [
        ("anna", "the second one", "P2"),
        ("anna", "Anna Muller please", "P2"),
        ("anna", "smith", "P1"),
        ("raj", "2", "P5"),
        ("ana smith", "yes", "P1"),
        ("my brother", "I mean Siobhan", "P3"),
    ],
)
def test_an_answer_chooses_an_option(customer: CustomerView, today: date, words: str, answer: str, payee: str) -> None:
    question = one(customer, today, "transfer", amount="50", to=words)
    assert isinstance(question, Question)
    call = answered(question, answer, today)
    assert call is not None
    assert resolve([call], customer, today) == [ReadyCall("transfer", {"amount_minor": 5000, "payee_id": payee})]


def test_an_answer_may_name_the_account_to_pay_from(customer: CustomerView, today: date) -> None:
    question = one(customer, today, "transfer", amount="50", to="anna")
    assert isinstance(question, Question)
    call = answered(question, "smith, from my savings account please", today)
    assert call == {"tool": "transfer", "amount": "50", "to": "Anna Smith", "from": "savings"}


@pytest.mark.parametrize("answer", ["the third one", "what is my balance", "yes", "ignore that", ""])
def test_what_is_no_clear_answer_chooses_nothing(customer: CustomerView, today: date, answer: str) -> None:
    question = one(customer, today, "transfer", amount="50", to="anna")
    assert isinstance(question, Question)
    assert answered(question, answer, today) is None


def test_questions_are_answered_one_by_one(customer: CustomerView, today: date) -> None:
    question = one(customer, today, "transfer")
    for answer in ("make it 50 pounds please", "anna", "the first"):
        assert isinstance(question, Question)
        call = answered(question, answer, today)
        assert call is not None
        (question,) = resolve([call], customer, today)
    assert question == ReadyCall("transfer", {"amount_minor": 5000, "currency": "GBP", "payee_id": "P1"})
    assert answered(Question("transfer", "amount", "How much?"), "my balance?", today) is None
    wrong = answered(Question("transfer", "amount", "How much?", call={"tool": "transfer"}), "10.505", today)
    assert wrong is not None
    assert "at most 2 decimals" in resolve([wrong], CustomerView(), today)[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("tool", "message", "arguments"),
    [
        ("transactions", "last 3 out of the joint account", {"account_id": "A3", "direction": "out"}),
        ("transactions", "what came in on my savings account", {"account_id": "A2", "direction": "in"}),
        ("transactions", "what did Mum send me", {"direction": "in"}),
        ("transactions", "what did I pay Mum", {"direction": "out"}),
        ("transactions", "all payments in May", {}),
        ("transactions", "when did I get paid", {"direction": "in"}),
        ("balance", "how much is in the EUR travel account", {"account_id": "A4"}),
        ("balance", "what is my current balance", {}),
        ("standing_orders", "what leaves my joint account", {}),
        ("standing_orders", "what went out by direct debit in october", {}),
        ("standing_orders", "what goes out next week", {"date_from": "2026-11-30", "date_to": "2026-12-06"}),
        ("standing_orders", "what will go out on 3 december", {"date_from": "2026-12-03", "date_to": "2026-12-03"}),
        ("standing_orders", "bills due before the 10th", {"date_from": "2026-11-29", "date_to": "2026-12-09"}),
        ("standing_orders", "due in the next 14 days", {"date_from": "2026-11-29", "date_to": "2026-12-13"}),
        ("transactions", "did they ever refund me", {"kind": "refund"}),
        ("transactions", "how many card payments did I make", {"kind": "card"}),
        ("balance", "what is in the joint account, not the savings", {"account_id": "A3"}),
    ],
)
def test_a_call_is_completed_from_its_message(
    customer: CustomerView, today: date, tool: str, message: str, arguments: dict[str, str]
) -> None:
    (only,) = resolve([{"tool": tool}], customer, today, message)
    assert isinstance(only, ReadyCall)
    assert (only.tool, only.arguments) == (tool, arguments)
    first, _ = resolve([{"tool": tool}, {"tool": "small_talk"}], customer, today, message)
    assert isinstance(first, ReadyCall)
    assert first.arguments == {}


@pytest.mark.parametrize("message", ["send 0.5 NOK to mum", "send 0.5 francs to mum", "0.5CHF to mum"])
def test_an_unknown_currency_is_asked_and_never_taken_for_another(
    customer: CustomerView, today: date, message: str
) -> None:
    (found,) = resolve([{"tool": "transfer", "amount": "0.5", "to": "mum"}], customer, today, message)
    assert isinstance(found, Question)
    assert "Which amount do you mean by “0.5" in found.text


def test_lost_or_stolen_is_asked_where_it_was_not_said(customer: CustomerView, today: date) -> None:
    call = {"tool": "report_card", "kind": "lost", "card": "visa"}
    assert resolve([call], customer, today, "I lost my visa") == [
        ReadyCall("report_card", {"kind": "lost", "card_id": "C1"})
    ]
    (question,) = resolve([call], customer, today, "I need to report my visa")
    assert isinstance(question, Question)
    assert answered(question, "it was stolen", today) == {**call, "kind": "stolen"}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("send mum 30 every month", "repeat a transfer"),
        ("send mum £30 once my salary is in", "make a transfer wait"),
        ("send mum £30 if my balance is over 10000", "make a transfer wait"),
        ("pay mum £30 on payday", "make a transfer wait"),
        ("split £30 between mum and siobhan", "split an amount"),
        ("send 30 each to mum and siobhan", "split an amount"),
        ("send 30 to mum and anna smith", "split an amount or pay several payees"),
        ("pay mum, siobhan £30", "split an amount or pay several payees"),
        ("pay £30 to sort code 20-00-00 account [account …678]", "send money to an account number"),
        ("send £30 of bitcoin to mum", "send crypto"),
        ("send mum £30 last friday", "send money on a day that is over"),
        ("transfer £30 from ACC00201 to mum", "send money from “ACC00201”"),
        ("transfer £30 from account ACC00201 to mum", "send money from “ACC00201”"),
        ("transfer £30 from Grace Mensah's account to mum", "send money from “Grace Mensah's account”"),
    ],
)
def test_an_order_with_a_part_that_is_not_possible_is_refused(
    customer: CustomerView, today: date, message: str, reason: str
) -> None:
    call = {"tool": "transfer", "amount": "30", "to": "mum"} | ({"date": "last friday"} if "friday" in message else {})
    (found,) = resolve([call], customer, today, message)
    assert isinstance(found, ReadyCall)
    assert found.unread[0].startswith(f"I cannot {reason}")
    assert "I can send one amount to one saved payee" in found.unread[0]


@pytest.mark.parametrize(
    "message",
    [
        "send mum £30 from my savings please",
        "send mum £30 if you can",
        "send mum £30, not siobhan",
        "send mum £30 for the cab from town",
        "send mum £30 from me",
        "send mum £30 for her weekly shop",
        "pay anna smith £30 when you get a chance",
        "send £30 to mum from my main account today",
        "send 30 pounds to mum and tell me my balance",
    ],
)
def test_an_order_that_is_possible_is_not_refused(customer: CustomerView, today: date, message: str) -> None:
    (found,) = resolve([{"tool": "transfer", "amount": "30", "to": "mum"}], customer, today, message)
    assert isinstance(found, ReadyCall)
    assert (found.arguments["payee_id"], found.unread) == ("P0", ())


def test_a_day_that_the_call_lacks_is_not_dropped(customer: CustomerView, today: date) -> None:
    call = {"tool": "transfer", "amount": "30", "to": "mum"}
    (found,) = resolve([call], customer, today, "send mum 30 on friday")
    assert isinstance(found, ReadyCall)
    assert found.arguments["date"] == "2026-12-04"
    said = "send mum 30 for the pizza from last night"
    assert resolve([{**call, "date": "last night"}], customer, today, said) == resolve([call], customer, today)
    (asked,) = resolve([call], customer, today, "send mum 30 next month")
    assert isinstance(asked, Question)
    assert asked.slot == "date"


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("cancel the transfer to siobhan", ReadyCall("cancel_transfer", {"payee_id": "P3"})),
        ("cancel my £30 payment", ReadyCall("cancel_transfer", {"amount_minor": 3000})),
        ("cancel the transfer on Thursday", ReadyCall("cancel_transfer")),
        ("cancel the payment to zofia", ReadyCall("cancel_transfer", {}, ("You have no saved payee “zofia”.",))),
    ],
)
def test_what_is_cancelled_is_what_was_named(
    customer: CustomerView, today: date, message: str, found: ReadyCall
) -> None:
    assert resolve([{"tool": "cancel_transfer"}], customer, today, message) == [found]


def test_an_answer_may_say_more(customer: CustomerView, today: date) -> None:
    question = one(customer, today, "transfer", amount="50", to="anna")
    assert isinstance(question, Question)
    call = answered(question, "smith. and make it 12", today)
    assert call is not None
    assert resolve([call], customer, today) == [ReadyCall("transfer", {"amount_minor": 1200, "payee_id": "P1"})]
    assert answered(question, "smith, every month", today) is None
    assert answered(question, "smith and tell her I am late", today) is None


def test_several_cards_are_one_at_a_time(customer: CustomerView, today: date) -> None:
    question = one(customer, today, "replace_card")
    assert isinstance(question, Question)
    call = answered(question, "both", today)
    assert call is not None
    (again,) = resolve([call], customer, today)
    assert isinstance(again, Question)
    assert "one card at a time" in again.text
    assert resolve([{"tool": "freeze_card"}], customer, today, "freeze both my cards") == [
        replace(again, tool="freeze_card", call={"tool": "freeze_card", "card": "both my cards"})
    ]


def test_a_card_that_no_status_fits_is_not_guessed(customer: CustomerView, today: date) -> None:
    active = replace(customer, cards=customer.cards[:1])
    unread = ("You have no card that is frozen: Visa Debit ending 4242 is active.",)
    assert one(active, today, "unfreeze_card") == ReadyCall("unfreeze_card", {}, unread)


def test_a_new_card_is_for_the_reported_one(customer: CustomerView, today: date) -> None:
    cards = [replace(customer.cards[0], status="stolen"), replace(customer.cards[1], status="active")]
    assert one(replace(customer, cards=cards), today, "replace_card") == ReadyCall("replace_card", {"card_id": "C1"})


def test_an_answer_may_exclude_or_say_whom_instead(customer: CustomerView, today: date) -> None:
    which, amount = one(customer, today, "transfer", amount="5", to="anna"), one(customer, today, "transfer")
    assert isinstance(which, Question)
    assert isinstance(amount, Question)
    assert answered(which, "not smith", today) == {"tool": "transfer", "amount": "5", "to": "Anna Müller"}
    assert answered(amount, "to mum please", today) == {"tool": "transfer", "to": "mum"}


def test_equal_calls_are_one(customer: CustomerView, today: date) -> None:
    calls = [{"tool": "spending", "merchant": name} for name in ("tesco", "Tesco", "TESCO")]
    assert resolve(calls, customer, today) == [ReadyCall("spending", {"merchant": "Tesco"})]


def test_a_customer_without_cards_or_payees_is_told(today: date) -> None:
    for tool, words, text in (("freeze_card", {}, "no card"), ("transfer", {"amount": "5"}, "no saved payees")):
        found = one(CustomerView(), today, tool, **words)
        assert isinstance(found, Question)
        assert text in found.text


TOOLS = [(tool, name) for tool, schema in call_schemas().items() for name in schema["properties"] if name != "tool"]


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(strategies.lists(strategies.tuples(strategies.sampled_from(TOOLS), strategies.text(max_size=25))))
def test_any_words_become_values_or_a_question(
    customer: CustomerView, today: date, words: list[tuple[tuple[str, str], str]]
) -> None:
    for found in resolve([{"tool": tool, name: text} for (tool, name), text in words], customer, today):
        if isinstance(found, Question):
            answered(found, words[0][1], today)
        else:
            assert not (found.unread and found.tool in REQUIRED)


@pytest.mark.parametrize(
    ("message", "changed"),
    [
        ("other way round", {"from_account_id": "A2", "to_account_id": "A1"}),
        ("no, double it please", {"amount_minor": 4000}),
        ("make it 60", {"amount_minor": 6000}),
        ("make it tomorrow", {}),
        ("make it 60 dollars", {}),
        ("and my balance?", {}),
    ],
)
def test_a_waiting_order_is_changed_by_closed_lists_of_words(message: str, changed: dict[str, Any]) -> None:
    waiting = {"amount_minor": 2000, "currency": "GBP", "from_account_id": "A1", "to_account_id": "A2"}
    expected = ReadyCall("transfer", waiting | changed) if changed else None
    assert changed_order("transfer", waiting, message) == expected


def test_pending_payments_are_listed(customer: CustomerView, today: date) -> None:
    (found,) = resolve([{"tool": "transactions", "merchant": "Tesco"}], customer, today, "tesco pending")
    assert found == ReadyCall("transactions", {"merchant": "Tesco", "status": "pending"})


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("what was the most recent payment", 1),
        ("when did I last pay", 1),
        ("the largest payments", None),
        ("last month's purchases", None),
    ],
)
def test_one_payment_is_told_from_several(customer: CustomerView, today: date, message: str, limit: int | None) -> None:
    (found,) = resolve([{"tool": "transactions"}], customer, today, message)
    assert isinstance(found, ReadyCall)
    assert found.arguments.get("limit") == limit


@pytest.mark.parametrize(
    ("tool", "message", "expected"),
    [
        ("balance", "whats in my own one, leave the joint out of it", [{"account_id": "A1"}]),
        (
            "balance",
            "balances of all except the joint",
            [{"account_id": "A1"}, {"account_id": "A2"}, {"account_id": "A4"}],
        ),
        (
            "spending",
            "how much has gone from me into the joint",
            [{"kind": "own_transfer", "direction": "in", "account_id": "A3"}],
        ),
        ("spending", "groceries not from the joint", [{"without": [{"account_id": "A3"}]}]),
        ("spending", "how much went into the joint", [{"direction": "in", "account_id": "A3"}]),
    ],
)
def test_the_message_says_which_accounts_are_meant(
    customer: CustomerView, today: date, tool: str, message: str, expected: list[dict[str, Any]]
) -> None:
    assert [one.arguments for one in resolve([{"tool": tool}], customer, today, message)] == expected  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("move everything in savings to current", {"from_account_id": "A2", "to_account_id": "A1"}),
        ("send all my savings to Siobhan", {"from_account_id": "A2", "payee_id": "P3"}),
    ],
)
def test_a_whole_balance_is_an_amount(
    customer: CustomerView, today: date, message: str, expected: dict[str, Any]
) -> None:
    customer = replace(customer, accounts=[replace(one, balance_minor=12345) for one in customer.accounts])
    (found,) = resolve([{"tool": "transfer", "to": message.split()[-1]}], customer, today, message)
    assert isinstance(found, ReadyCall)
    assert found.arguments == {**expected, "amount_minor": 12345, "currency": "GBP"}
    (refused,) = resolve([{"tool": "transfer", "to": "current"}], customer, today, f"{message} but keep 20")
    assert isinstance(refused, ReadyCall)
    assert "leave in an account" in refused.unread[0]


def test_somebody_elses_account_number_is_no_question_for_ones_own(customer: CustomerView, today: date) -> None:
    message = "send 5000 to this guy, sort code 11-22-33 account 12345678"
    calls = [{"tool": "transfer", "amount": "5000"}, {"tool": "account_details"}]
    (found,) = resolve(calls, customer, today, message)
    assert isinstance(found, ReadyCall)
    assert "Save the payee in the app first" in found.unread[0]


def test_an_unknown_payee_is_said_before_the_amount_is_asked(customer: CustomerView, today: date) -> None:
    found = one(customer, today, "transfer", to="dave")
    assert isinstance(found, Question)
    assert (found.slot, found.text[:35]) == ("to", "You have no saved payee “dave”. Who")


def test_one_kind_of_fee_is_not_all_fees(customer: CustomerView, today: date) -> None:
    customer = replace(customer, categories=[*customer.categories, "fees"])
    found = one(customer, today, "spending", category="overdraft interest", period="this year")
    assert isinstance(found, ReadyCall)
    assert (found.arguments["category"], found.arguments["described"]) == ("fees", "overdraft interest")


def test_the_other_account_of_several_is_asked(customer: CustomerView, today: date) -> None:
    message = "move fifty from savings to the other account"
    (asked,) = resolve([{"tool": "transfer", "amount": "fifty", "from": "savings"}], customer, today, message)
    assert isinstance(asked, Question)
    assert asked.text.startswith("Which account do you mean: Current account")
    assert answered(asked, "the joint one", today) == {**asked.call, "to": "Joint account"}


def test_only_words_for_everything_empty_an_account(customer: CustomerView, today: date) -> None:
    customer = replace(customer, accounts=[replace(one, balance_minor=12345) for one in customer.accounts])
    message = "send money to mum and what is in my savings"
    (asked,) = resolve([{"tool": "transfer", "to": "mum"}], customer, today, message)
    assert isinstance(asked, Question)
    assert asked.slot == "amount"


def test_a_car_is_no_shop_that_begins_with_it(customer: CustomerView, today: date) -> None:
    customer = replace(customer, merchants=["Carrefour"], categories=["transport"])
    assert isinstance(one(customer, today, "spending", merchant="car", period="May"), Question)


@pytest.mark.parametrize(
    ("message", "to"),
    [
        ("Take 50 off the savings and get it straight to Mum", "savings"),
        ("take 50 out of savings and send it to Mum", "Mum"),
        ("use the savings to pay Mum 50", "Mum"),
    ],
)
def test_the_account_that_money_is_taken_from(customer: CustomerView, today: date, message: str, to: str) -> None:
    (found,) = resolve([{"tool": "transfer", "amount": "50", "to": to}], customer, today, message)
    wanted = {"amount_minor": 5000, "payee_id": "P0", "from_account_id": "A2"}
    assert isinstance(found, ReadyCall)
    assert found.arguments == wanted


def test_how_near_two_payments_were_is_no_period(customer: CustomerView, today: date) -> None:
    call = {"tool": "spending", "merchant": "Uber Eats", "period": "two days"}
    twice = "Uber Eats is in there twice within two days, looks doubled"
    assert resolve([call], customer, today, twice) == [ReadyCall("transactions", {"merchant": "Uber Eats"})]
    (spent,) = resolve([call], customer, today, "What did I spend at Uber Eats in two days?")
    assert isinstance(spent, ReadyCall)
    assert spent.arguments["date_from"] == "2026-11-28"


@pytest.mark.parametrize(
    "message",
    [
        "Tesco in May, Express shops included",
        "Tesco in May incl Express",
        "Tesco in May, counting the Express ones too",
    ],
)
def test_shops_that_are_to_be_counted_are_added(customer: CustomerView, today: date, message: str) -> None:
    found = resolve([{"tool": "spending", "merchant": "Tesco", "period": "May"}], customer, today, message)
    assert [one.arguments["merchant"] for one in found if isinstance(one, ReadyCall)] == ["Tesco", "Tesco Express"]


@pytest.mark.parametrize(
    "message",
    ["how much is in my saver and when did I last put something in", "saver balance and the last deposit into it"],
)
def test_what_was_last_put_in_is_of_the_account_whose_balance_is_asked(
    customer: CustomerView, today: date, message: str
) -> None:
    last = ReadyCall("transactions", {"account_id": "A2", "direction": "in", "limit": 1})
    assert last in resolve([{"tool": "balance", "account": "saver"}], customer, today, message)


def test_two_equal_months_are_of_two_years(customer: CustomerView, today: date) -> None:
    days = {
        "from march 25 to march 26": ("2025-03-01", "2026-03-31"),
        "from april 25 to april 26": ("2025-04-06", "2026-04-05"),
        "from nov 25 to nov 26": ("2026-11-25", "2026-11-26"),
        "from 25 april to 26 april": ("2026-04-25", "2026-04-26"),
    }
    for words, (first, last) in days.items():
        found = one(customer, today, "spending", period=words)
        assert isinstance(found, ReadyCall)
        assert (found.arguments["date_from"], found.arguments["date_to"]) == (first, last)


def test_only_the_frozen_card_is_offered(customer: CustomerView, today: date) -> None:
    found = one(customer, today, "unfreeze_card", card="normal debit")
    assert isinstance(found, Question)
    assert len(found.options) == 1
    assert "Only your Mastercard" in found.text


def test_the_account_of_a_payee_is_the_payee(customer: CustomerView, today: date) -> None:
    found = one(customer, today, "transfer", amount="5", to="Siobhan O'Leary's")
    assert isinstance(found, ReadyCall)
    assert found.arguments["payee_id"] == "P3"
