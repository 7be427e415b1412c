"""Questions about the rows of a ledger: their right answers, and which replies are right."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from bankllm.errors import ServerError
from bankllm.loadtest.questions import questions_of
from bankllm.loadtest.reply_outcomes import LedgerQuestion
from bankllm.loadtest.server_process import ServerProcess
from tests.support.live_server import bank
from tests.support.loadtest_app import REPLY


def test_right_answers_are_computed_from_the_complete_months_of_the_ledger(server: ServerProcess) -> None:
    found = {each.text: (set(each.required), set(each.allowed)) for each in questions_of(server.url, ["CUST001"])}
    spent = ({"£20.00"}, {"£22.50", "£2.50", "£0.00"})
    assert found == {
        "How much did I spend on groceries in October 2026?": spent,
        "total at Tesco in October 2026": spent,
        "Show my payments to Tesco in October 2026.": (
            {"£12.50", "£10.00"},
            {"£2.50", "€14.00", "£20.00", "£22.50", "£0.00"},
        ),
        "What was my largest payment in October 2026?": ({"£900.00"}, set()),
        "What is the balance of my current account?": ({"£1,204.50"}, {"£1,700.00", "£4.50", "£500.00"}),
    }


def test_a_server_without_the_rows_is_an_error(server: ServerProcess) -> None:
    with pytest.raises(ServerError, match=r"GET http://127.*CUST001/transactions: expected success, found HTTP 404"):
        questions_of(f"{server.url}/nowhere", ["CUST001"])


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"reply": "You spent £1,020.00 at Tesco, in 2 payments."}, "right"),
        ({"reply": "That was £1020, all at Tesco."}, "right"),
        ({"reply": "You spent £1,020.00. That is £1,022.50 paid, less £2.50 from 1 refund."}, "right"),
        ({"reply": "You spent £1,020.00 at Tesco and £7.00 at Boots."}, "wrong"),
        ({"reply": "You spent £20.00 at Tesco."}, "wrong"),
        ({"reply": "Here is how fees work."}, "wrong"),
        ({"reply": "Which account do you mean?", "question": {"slot": "account"}}, "asked back"),
        ({"reply": "A person takes over.", "handover_id": "h1"}, "handed over"),
    ],
)
def test_a_reply_is_right_if_it_states_the_amounts_and_no_other(change: dict[str, Any], outcome: str) -> None:
    question = LedgerQuestion("CUST001", "total at Tesco in October 2026", ["£1,020.00"], ["£1,022.50", "£2.50"])
    assert question.outcome(REPLY | change) == outcome


@pytest.mark.slow
def test_the_service_answers_the_questions_of_a_customer_right(tmp_path: Path) -> None:
    with bank(tmp_path, BANKLLM_TODAY="2026-11-16") as server, httpx.Client(base_url=server.url, timeout=60) as client:
        questions = questions_of(server.url, ["CUST002"])
        bodies = [{"message": each.text, "customer_id": each.customer_id} for each in questions]
        replies = [client.post("/api/v1/chat", json=body).json() for body in bodies]
    outcomes = [each.outcome(reply) for each, reply in zip(questions, replies, strict=True)]
    assert len(questions) > 20
    assert outcomes.count("right") >= 0.95 * len(questions)
    assert "wrong" not in outcomes
