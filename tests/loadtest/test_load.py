"""The rows that all drivers share, the arguments that a load rejects, and what a result computes from its rows."""

import math
from itertools import islice
from typing import Any

import pytest

from bankllm.errors import UsageError
from bankllm.loadtest.load import COLUMNS, LOAD_DRIVERS, Load, piece_rows, row
from bankllm.loadtest.reply_outcomes import LedgerQuestion
from tests.support.queue_model import result

LOAD: dict[str, Any] = {"url": "http://127.0.0.1:9", "driver": "ab", "messages": ["hi"], "customers": ["CUST001"]}


def test_the_latencies_of_a_row_follow_from_its_times() -> None:
    due = row(1.5, 4.0, 1.0, driver="open-loop", status=200)
    assert list(due) == list(COLUMNS)
    assert (due["latency_ms"], due["service_ms"], due["ttft_ms"], due["bytes"]) == (3000, 2500, "", "")
    assert row(1.5, 4.0, 1.0, 2.25)["ttft_ms"] == 1250
    assert row(1.5, 4.0, first_token_s=2.25)["ttft_ms"] == 750
    assert row(1.5, 4.0)["latency_ms"] == 2500
    rounded = row(0.12345678, 1.0)
    assert (rounded["sent_s"], rounded["latency_ms"]) == (0.123457, 876.543)
    with pytest.raises(KeyError, match=r"unknown columns \['colour'\]"):
        row(1.5, 4.0, colour="blue")


def test_the_rows_of_pieces_follow_from_their_times() -> None:
    rows = piece_rows(7, 1.0, [1.25, 1.5, 2.25], "model")
    assert [(each["place"], each["since_sent_ms"], each["gap_ms"]) for each in rows] == [
        ("first", 250, ""),
        ("later", 500, 250),
        ("later", 1250, 750),
    ]
    assert {(each["request"], each["served_by"]) for each in rows} == {(7, "model")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "ftp://127.0.0.1"}, "'ftp://127.0.0.1' is not an HTTP address"),
        ({"url": "http://192.0.2.1:8000"}, r"192\.0\.2\.1 is not this machine.*allow_remote=True"),
        ({"url": "http://localhost.example.org"}, "is not this machine"),
        ({"driver": "wrk"}, "Unknown load driver 'wrk'. Expected one of: .*open-loop"),
        ({"users": 0}, r"Expected 1 to 1000 users .*; found 0"),
        ({"users": 20, "requests": 10}, r"1 to 10 users \(each sends at least 1 request\); found 20"),
        ({"messages": []}, "Expected at least 1 message; found 0"),
        ({"customers": []}, "Expected at least 1 customer; found 0"),
        ({"wait_s": (3, 1)}, r"found \(3, 1\)"),
        ({"requests": 0, "users": 0}, "Expected requests of at least 1; found 0"),
        ({"warm_up": -1}, "Expected warm_up of at least 0; found -1"),
        ({"timeout_s": 0}, "Expected a timeout above 0 s .*; found 0"),
        ({"timeout_s": math.nan}, "found nan"),
        (
            {"kind": "mix"},
            "ab cannot send the kind of load 'mix'. Expected .* chat, health. Drivers .*: .*open-loop",
        ),
        ({"kind": "balance"}, "'balance'. Expected one of the kinds chat, health. Drivers that can send it: none"),
        ({"rate": 10}, "Expected no rate for ab, whose loop is closed .*; found 10"),
        ({"driver": "open-loop"}, "Expected a rate above 0 .* open loop .*; found None"),
        *(({"driver": "open-loop", "rate": rate}, f"found {rate}") for rate in (0, -5, math.nan, math.inf, 1e9)),
        ({"driver": "open-loop", "rate": 5, "requests": 0}, "Expected requests of at least 1; found 0"),
        ({"driver": "open-loop", "rate": 5, "arrivals": "bursts"}, "arrivals of poisson or constant; found bursts"),
    ],
)
def test_invalid_arguments_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Load(**LOAD | change)


def test_a_load_sends_the_default_mix_of_its_driver() -> None:
    default = {name: LOAD_DRIVERS.get(name).mixes[0] for name in LOAD_DRIVERS}
    others = dict.fromkeys(("ab", "closed-loop", "open-loop", "sequential"), "chat")
    assert default == others | {"guidellm": "stream", "locust": "mix"}
    load = Load(**LOAD | {"driver": "locust", "messages": ["a", "b"], "seed": 3})
    kinds = [call.kind for call in islice(load.calls(), 3000)]
    assert 0.28 < kinds.count("health") / 3000 < 0.38  # a third, within 5 sigma
    assert list(islice(load.calls(), 50)) == list(islice(load.calls(), 50))


def test_most_chats_are_questions_of_their_customer() -> None:
    questions = [LedgerQuestion(customer, f"total of {customer}", ["£5.00"]) for customer in ("CUST007", "CUST008")]
    load = Load(**LOAD | {"driver": "open-loop", "rate": 1, "kind": "stream", "questions": questions})
    calls = list(islice(load.calls(), 1000))
    assert {call.kind for call in calls} == {"stream"}
    assert 500 <= sum(call.question is not None for call in calls) <= 700
    asked = {(call.body["customer_id"], call.body["message"]) for call in calls}
    assert asked == {("CUST001", "hi"), ("CUST007", "total of CUST007"), ("CUST008", "total of CUST008")}


def test_a_token_is_not_printed() -> None:
    assert "s3cret" not in repr(Load(**LOAD, tokens={"CUST001": "s3cret"}))


def test_a_result_leaves_the_warm_up_out() -> None:
    warm = row(0.0, 0.5, kind="chat", phase="warm_up", error="HTTP 503")
    rows = [row(1.0, 1.5, kind="chat", error="HTTP 503"), row(2.0, 3.0, kind="health")]
    measured = result("locust", [warm, *rows])
    assert measured.measured == rows
    assert (measured.errors, measured.seconds) == ({"HTTP 503": 1}, 2.0)
    summary = measured.summary()
    assert (summary["requests"], summary["warm_up"], summary["failed"], summary["requests_per_s"]) == (2, 1, 1, 1.0)
    assert (summary["users"], summary["rate"], summary["generator_cpu_share"]) == (100, "", 0.5)
    opened = result("open-loop", [row(1.5, 4.0, 1.0)], rate=50)
    assert (opened.seconds, opened.summary()["users"], opened.summary()["arrivals"]) == (3.0, 0, "poisson")
    assert result("ab", [warm]).seconds == 0
    assert result("ab", rows, invalid_because="it was cut short").summary()["invalid_because"] == "it was cut short"


def test_the_longest_duration_counts_every_request_as_timed_out() -> None:
    load = Load(**LOAD | {"users": 2, "requests": 10, "timeout_s": 5, "wait_s": (0, 1)})
    assert load.max_duration_s() == 60 + 6 * (5 + 1)
