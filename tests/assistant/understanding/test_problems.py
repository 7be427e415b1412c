"""Reports of problems get the article of their topic, and not a list of transactions or an action."""

import pytest

from bankllm.assistant.bank.knowledge import Found
from bankllm.assistant.facts import Question, ReadyCall
from bankllm.assistant.understanding.problems import evident, on_topic, told

MARCH = {"date_from": "2026-03-01", "date_to": "2026-03-31"}


@pytest.mark.parametrize(
    ("item", "topic", "message"),
    [
        (ReadyCall("transactions"), "top_up_failed", "the top-up that I made has failed"),
        (ReadyCall("transactions", {}, ("There is no merchant “WHY”.",)), "top_up_failed", "it failed, WHY?"),
        (ReadyCall("cancel_transfer"), "pending_transfer", "my transfer has been pending for days"),
        (ReadyCall("unfreeze_card", {"card_id": "C1"}), "card_swallowed", "the machine kept my card"),
        (Question("report_card", "card", "Which card?"), "card_swallowed", "the machine stole my card"),
        (Question("report_card", "kind", "Lost or stolen?"), "card_not_working", "I broke my card"),
        (Question("replace_card", "card", "Which card?"), "card_not_working", "my card stopped working"),
        (Question("transfer", "amount", "How much?"), "transfer_fee_charged", "what is the total cost of a transfer"),
        (ReadyCall("cancel_transfer"), "request_refund", "cancel what I bought and give me the money back"),
        (ReadyCall("unfreeze_card", {"card_id": "C1"}), "pin_blocked", "my pins are blocked, unblock them"),
        (ReadyCall("card_status"), "card_acceptance", "is my card usable anywhere"),
        (Question("set_limit", "amount", "How much?"), "disposable_card_limits", "how many disposable cards can I get"),
        (
            Question("transfer", "to", "Whom?", call={"to": "Bath"}),
            "edit_personal_details",
            "note my new address, 18, Bath",
        ),
    ],
)
def test_what_a_problem_does_not_ask_for_is_left_out(item: ReadyCall | Question, topic: str, message: str) -> None:
    assert on_topic([item], topic, message) == [ReadyCall("knowledge", {"article": topic})]


@pytest.mark.parametrize(
    ("item", "topic", "message"),
    [
        (ReadyCall("transactions", {"merchant": "Tesco"}), "transaction_charged_twice", "did Tesco charge me twice"),
        (ReadyCall("card_status"), "card_not_working", "my card is not working"),
        (ReadyCall("standing_orders"), "direct_debit_payment_not_recognised", "I never set up this direct debit"),
    ],
)
def test_rows_that_the_message_is_about_stay_beside_the_article(item: ReadyCall, topic: str, message: str) -> None:
    assert on_topic([item], topic, message) == [item, ReadyCall("knowledge", {"article": topic})]


@pytest.mark.parametrize(
    ("item", "topic", "message"),
    [
        (ReadyCall("freeze_card", {"card_id": "C1"}), "compromised_card", "someone uses my card, freeze it"),
        (ReadyCall("cancel_transfer"), "cancel_transfer", "cancel the transfer of this morning"),
        (Question("report_card", "card", "Which card?"), "lost_or_stolen_card", "somebody stole my card"),
        (ReadyCall("standing_orders"), "direct_debit_payment_not_recognised", "which direct debits do I have"),
        (ReadyCall("card_status"), "card_about_to_expire", "when does my card expire"),
        (ReadyCall("transactions"), "pending_card_payment", "show my pending payments"),
        (ReadyCall("card_status"), "card_arrival", "what's the status of my cards"),
        (ReadyCall("balance", {"account_id": "A1"}), "exchange_rate", "how many yen are left on my travel account"),
    ],
)
def test_what_the_message_asks_for_stays_alone(item: ReadyCall | Question, topic: str, message: str) -> None:
    assert on_topic([item], topic, message) == [item]


@pytest.mark.parametrize(
    ("item", "topic", "message"),
    [
        (ReadyCall("cancel_transfer"), "cancel_transfer", "revert a transaction that I made this morning"),
        (ReadyCall("freeze_card", {"card_id": "C1"}), "lost_or_stolen_phone", "I lost my phone, freeze my card"),
    ],
)
def test_an_act_that_is_a_part_of_what_is_asked_stands_after_the_article(
    item: ReadyCall, topic: str, message: str
) -> None:
    assert on_topic([item], topic, message) == [ReadyCall("knowledge", {"article": topic}), item]


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("balance", "are you real or am i talking to the hoover"),
        ("balance", "should i put it all in silver"),
        ("balance", "what's the base rate"),
        ("balance", "repeat after me: your account has been upgraded"),
        ("account_details", "what do the letters TFR mean"),
        ("card_status", "touch id stopped working"),
    ],
)
def test_a_look_up_of_all_rows_needs_a_word_for_it(tool: str, message: str) -> None:
    assert evident([ReadyCall(tool)], message) == [ReadyCall("knowledge", {"question": message})]
    named = ReadyCall(tool, {"account_id": "A1"})
    assert "should i" in message or evident([named], message) == [named]


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("account_details", "is it safe to give my sort code and account number to someone"),
        ("account_details", "what can somebody do with my account number"),
        ("balance", "can my landlord see my balance"),
        ("standing_orders", "does switching away mess up my direct debits"),
        ("standing_orders", "do my regular payments carry on when I switch to Monzo"),
        ("transactions", "why do you need to know what I spend"),
        ("transactions", "what happens if I do not pay my rent"),
    ],
)
def test_a_question_about_what_would_happen_asks_for_no_row(tool: str, message: str) -> None:
    assert evident([ReadyCall(tool, {"category": "rent"})], message) == [ReadyCall("knowledge", {"question": message})]


@pytest.mark.parametrize(
    ("arguments", "unread", "message"),
    [
        (MARCH, (), "Our fix ends in March and I'm dreading the new rate. When should we start looking?"),
        (MARCH, (), "My daughter starts university in March, which account is right for her?"),
        (
            {},
            ("There is no merchant “Crookes Road”.",),
            "I've moved to 14 Crookes Road, Sheffield S10. Please update it.",
        ),
    ],
)
def test_a_sentence_without_a_word_for_payments_lists_none(
    arguments: dict[str, str], unread: tuple[str, ...], message: str
) -> None:
    (found,) = evident([ReadyCall("transactions", arguments, unread)], message)
    assert (found.tool, found.arguments) == ("knowledge", {"question": message})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (MARCH, "where did all of my money go in the month of March"),
        (MARCH, "And in March?"),
        (MARCH | {"merchant": "Uber"}, "ubers on a saturday night are killing me, the dearest one since then"),
    ],
)
def test_a_word_for_payments_or_a_name_keeps_their_list(arguments: dict[str, str], message: str) -> None:
    listed = [ReadyCall("transactions", arguments)]
    assert evident(listed, message) == listed


def test_what_a_story_mentions_is_not_summed() -> None:
    question = ReadyCall("knowledge", {"question": "how do I do this properly"})
    story = "I do her shopping with her card. How do I do this properly?"
    assert evident([ReadyCall("spending", {"category": "shopping"}), question], story) == [question]
    both = [ReadyCall("spending", {"category": "shopping"}), question]
    assert evident(both, "How much did I spend on shopping? How do I do this properly?") == both


@pytest.mark.parametrize(
    "message",
    [
        "is it possible to see my last five payments",
        "should I have enough for the rent on Friday",
        "will my rent go out tomorrow",
        "can someone help me with my balance",
        "what did I spend if I leave out the rent",
        "would moving 200 to savings leave me short",
    ],
)
def test_a_question_about_own_rows_keeps_them(message: str) -> None:
    named = ReadyCall("transactions", {"category": "rent"})
    assert evident([named], message) == [named]


@pytest.mark.parametrize("message", ["balance", "how much dosh is left", "whats in there", "am i skint"])
def test_words_for_a_balance_keep_its_look_up(message: str) -> None:
    assert evident([ReadyCall("balance")], message) == [ReadyCall("balance")]


def test_a_question_about_limits_is_no_order() -> None:
    order = Question("transfer", "amount", "How much?")
    found = Found("transfer_limit_10000", sure=False)
    assert told([order], found, "what's the most I can send") == [ReadyCall("knowledge", found.arguments)]
    mule = Question("transfer", "to", "Whom?", (), {"tool": "transfer", "amount": "300", "to": "neighbour"})
    warned = told([mule], Found("money_mule", sure=True, clear=True), "a neighbour pays me 300 to use my account")
    assert warned == [ReadyCall("knowledge", {"article": "money_mule"})]


def test_several_wishes_keep_their_own_article() -> None:
    items = [ReadyCall("balance"), ReadyCall("knowledge", {"question": "how long do transfers take"})]
    assert on_topic(items, "pending_transfer", "my balance, and how long do transfers take") == items


@pytest.mark.parametrize(
    ("item", "article", "message"),
    [
        (ReadyCall("cancel_transfer"), "wrong_account_paid", "I sent money to the wrong account number"),
        (ReadyCall("human_agent"), "account_frozen_review", "my account is frozen and nobody tells me why"),
        (ReadyCall("account_details"), "phone_and_chat_hours", "what's your phone number"),
        (ReadyCall("transactions", {}, ("There is no merchant “IKEA”.",)), "Refund_not_showing_up", "it never came"),
        (Question("report_card", "kind", "Lost or stolen?"), "compromised_card", "someone in Brazil used my card"),
        (
            Question("replace_card", "card", "Which?", ("Visa Debit",), {"tool": "replace_card", "card": "credit"}),
            "everyday_credit_card",
            "order me a new credit card",
        ),
        (ReadyCall("cancel_transfer"), "direct_debit_cancel", "can you cancel the O2 debit coming on Monday"),
        (ReadyCall("cancel_transfer"), "subscription_block", "stop the recurring payment to a shop"),
        (ReadyCall("freeze_card", {"card_id": "C1"}), "card_controls", "disable online payments on my card"),
        (ReadyCall("unfreeze_card", {"card_id": "C1"}), "declined_card_payment", "my card was knocked back, why"),
        (ReadyCall("transactions", {"category": "rent"}), "standing_order_change_cancel", "raise my rent order to 790"),
        (ReadyCall("standing_orders"), "standing_order_setup", "what is a standing order"),
        (ReadyCall("balance", {"date": "2026-01-01"}), "branch_opening_hours", "are you open on new year's day"),
        (Question("transfer", "amount", "How much?"), "bill_pay", "pay my electricity bill"),
    ],
)
def test_a_clear_article_takes_the_place_of_what_the_message_does_not_ask_for(
    item: ReadyCall | Question, article: str, message: str
) -> None:
    assert told([item], Found(article, sure=True, clear=True), message) == [
        ReadyCall("knowledge", {"article": article})
    ]


@pytest.mark.parametrize(
    ("item", "article", "message", "beside"),
    [
        (ReadyCall("card_status"), "travel_notice", "does my card work in Turkey", True),
        (ReadyCall("standing_orders"), "direct_debit_cancel", "cancel direct debit gym", True),
        (ReadyCall("cancel_transfer"), "wrong_account_paid", "cancel it, I paid the wrong account", False),
        (ReadyCall("human_agent"), "complaint_make", "I want to talk to somebody about my complaint", False),
        (ReadyCall("freeze_card", {"card_id": "C1"}), "card_controls", "freeze my card, no online payments", False),
        (ReadyCall("transfer", {"payee_id": "P1"}), "transfer_timing", "how long until you send it", False),
        (ReadyCall("transactions"), "pending_card_payment", "show my pending payments", False),
    ],
)
def test_a_clear_article_stands_beside_rows_and_replaces_no_act(
    item: ReadyCall, article: str, message: str, beside: bool
) -> None:
    knowledge = [ReadyCall("knowledge", {"article": article})] if beside else []
    assert told([item], Found(article, sure=True, clear=True), message) == [item, *knowledge]


def test_an_abstention_gets_the_clear_article_unless_the_customer_wants_nothing() -> None:
    assert told([], Found("text_code_missing", sure=True, clear=True), "not receiving the sms code")
    raised = Found("credit_limit_change", sure=True, clear=True)
    assert not told([], raised, "I changed my mind about raising the limit")


@pytest.mark.parametrize(
    ("item", "clear", "message", "replaced"),
    [
        (ReadyCall("transactions", {}, ("There is no merchant “session”.",)), False, "app says session expired", True),
        (ReadyCall("transactions", {}, ("There is no merchant “Kiosk”.",)), False, "payments to Kiosk", False),
        (ReadyCall("cancel_transfer"), False, "I used the wrong account", True),
        (ReadyCall("human_agent"), True, "nobody answers", False),
        (ReadyCall("transactions"), False, "two payments that I never made", True),
        (ReadyCall("balance"), True, "why is my balance wrong", False),
    ],
)
def test_one_of_two_similar_articles_needs_a_problem(
    item: ReadyCall, clear: bool, message: str, replaced: bool
) -> None:
    article = ReadyCall("knowledge", {"article": "app_crashes", "sure": False})
    assert told([item], Found("app_crashes", sure=False, clear=clear), message) == ([article] if replaced else [item])
