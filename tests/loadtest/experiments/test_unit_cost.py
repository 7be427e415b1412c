"""What chats cost: the rows of `measure_cost`, and the records that are measured from them."""

from typing import Any

import pytest

from bankllm.evidence.format import format_interval
from bankllm.evidence.run import Run
from bankllm.evidence.verification.verify import verify_records
from bankllm.loadtest.experiments import load_records
from bankllm.loadtest.experiments.unit_cost import BUSY_USERS, CHUNKS, measure_cost
from bankllm.loadtest.load import Load, LoadResult, RequestRow, row

ENGINE_S, SERVER_S = 0.5, 0.004
"""CPU seconds of a text and of a chat."""


class Service:
    """Every other chat asks the language model, and every fourth is refused by it."""

    def __init__(self) -> None:
        self.chats = self.texts = 0

    def ask(self, driver: str, *, users: int, requests: int, kind: str, seed: int) -> LoadResult:
        assert (driver, kind) == ("closed-loop", "chat")
        rows = [self._chat(number, users) for number in range(requests)]
        load = Load("http://127.0.0.1:9", driver, ["hi"], ["CUST001"], users=users, requests=requests)
        return LoadResult(load, rows)

    def usage(self) -> dict[str, float]:
        engine_s = 7 + ENGINE_S * self.texts
        clocks = {"all_cpu_s": 3 + SERVER_S * self.chats + engine_s, "engine_cpu_s": engine_s}
        return clocks | {"all_memory_bytes": 1100 + self.chats, "engine_memory_bytes": 700}

    def _chat(self, number: int, users: int) -> RequestRow:
        busy, by_model = number % 4 == 3, number % 4 == 1
        self.chats, self.texts = self.chats + 1, self.texts + by_model
        about = {"kind": "chat", "fallback": "busy" if busy else "", "served_by": "model" if by_model else "rules"}
        return row(number / users, (number + 1) / users, **about) | {"classify_ms": 500 if by_model else 1}


@pytest.fixture
def measured() -> tuple[list[RequestRow], list[RequestRow]]:
    service = Service()
    return measure_cost(service.ask, service.usage, "model", chats=8)


def test_each_chunk_has_its_chats_texts_and_clocks(measured: tuple[list[RequestRow], list[RequestRow]]) -> None:
    chunks, chats = measured
    assert [(each["load"], each["users"]) for each in chunks] == CHUNKS * [("one", 1)] + CHUNKS * [("busy", 4)]
    for each in chunks:
        assert (each["chats"], each["texts"], each["path"]) == (8, 2, "model")
        assert each["seconds"] == pytest.approx(8 / float(each["users"]))
        assert float(each["engine_after_s"]) - float(each["engine_before_s"]) == pytest.approx(2 * ENGINE_S)
        spent = float(each["all_after_s"]) - float(each["all_before_s"])
        assert spent == pytest.approx(2 * ENGINE_S + 8 * SERVER_S)
    assert len(chats) == 2 * CHUNKS * 8
    assert {(each["consulted"], each["generated"], each["fallback"], each["served_by"]) for each in chats} == {
        ("no", "no", "", "rules"),
        ("yes", "yes", "", "model"),
        ("yes", "no", "busy", "rules"),
    }


def test_a_chunk_has_a_chat_for_each_user() -> None:
    service = Service()
    chunks, _ = measure_cost(service.ask, service.usage, "rules", chats=3)
    assert {each["chats"] for each in chunks} == {3, BUSY_USERS["rules"]}


@pytest.mark.parametrize("price_per_hour", [0.0, 0.36])
def test_the_records_of_costs_verify(
    run: Run, measured: tuple[list[RequestRow], list[RequestRow]], price_per_hour: float
) -> None:
    chunks, chats = measured
    service = Service()
    by_rules = measure_cost(service.ask, service.usage, "rules", chats=8)
    run.write_rows("cost", [*by_rules[0], *chunks])
    run.write_rows("cost_chats", [*by_rules[1], *chats])
    about: dict[str, Any] = {"price_per_hour": price_per_hour, "cores": 2}
    found = {each["id"]: run.measure(**each) for each in load_records.of_cost("cost", "cost_chats", **about)}
    per_chat_s = SERVER_S + ENGINE_S / 4
    assert found["load.cost.model.busy.cpu"].value == pytest.approx(1000 * per_chat_s)
    assert found["load.cost.model.busy.cpu"].ci95 == pytest.approx((1000 * per_chat_s, 1000 * per_chat_s))
    assert format_interval(found["load.cost.model.busy.cpu"]) == "129.0 – 129.0 s/1000 chats"
    assert found["load.cost.texts.one.cpu"].value == pytest.approx(1000 * ENGINE_S)
    assert found["load.cost.model.busy.memory"].value == 1100 + 2 * CHUNKS * 8
    assert found["load.cost.consulted"].value == 0.5
    prices = {id: record.value for id, record in found.items() if id.endswith(".price")}
    assert len(prices) == (4 if price_per_hour else 0)
    if price_per_hour:
        assert prices["load.cost.model.busy.price"] == pytest.approx(1e6 * per_chat_s * 0.36 / 3600 / 2)
    assert {record.status for record in found.values()} == {"measured"}
    assert verify_records(run.folder).holds


def test_without_a_language_model_the_records_of_texts_are_invalid(run: Run) -> None:
    service = Service()
    chunks, chats = measure_cost(service.ask, service.usage, "model", chats=1)  # the first chat asks no model
    chunks = [each | {"texts": 0} for each in chunks]
    run.write_rows("cost", [*chunks, *(each | {"path": "rules"} for each in chunks)])
    run.write_rows("cost_chats", chats)
    found = {
        each["id"]: run.measure(**each)
        for each in load_records.of_cost("cost", "cost_chats", price_per_hour=0, cores=2)
    }
    assert found["load.cost.texts.busy.cpu"].invalid_because == "no texts"
    assert found["load.cost.rules.busy.cpu"].status == "measured"
