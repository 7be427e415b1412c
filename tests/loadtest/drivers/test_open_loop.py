"""The open loop: planned rows, sent at their due times; a stall shows in all requests that were due during it."""

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev

import pytest

from bankllm.evidence.statistics.samples import samples_needed
from bankllm.loadtest.drivers.open_loop import due_times, lateness_fault, run_open_loop
from bankllm.loadtest.load import Arrivals, Load, RequestRow, row
from bankllm.loadtest.questions import questions_of
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from tests.support.loadtest_app import ARGUMENTS, MIXED, check_rows, seen
from tests.support.null_endpoint import count
from tests.support.server_client import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.mark.slow
def test_the_open_loop_sends_exactly_the_planned_requests_at_their_times(server: ServerProcess, tmp_path: Path) -> None:
    load = {"kind": "mix", "requests": 300, "warm_up": 40, "rate": 400}
    result = run_load(server.url, "open-loop", output=tmp_path, **load, **MIXED)
    check_rows(result, seen(server.url))
    assert [each["phase"] for each in result.rows] == 40 * ["warm_up"] + 300 * ["steady"]
    for each in result.rows:
        due, sent, first_byte, done = (
            float(each[name]) for name in ("scheduled_s", "sent_s", "first_byte_s", "done_s")
        )
        assert due <= sent <= first_byte <= done
        assert each["latency_ms"] == pytest.approx(1000 * (done - due), abs=0.01)
        assert each["service_ms"] == pytest.approx(1000 * (done - sent), abs=0.01)
        assert int(each["bytes"]) > 10
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_streams_are_read_piece_by_piece(server: ServerProcess, tmp_path: Path) -> None:
    texts = ["You spent nothing there", "replace this", "break", "fail"]
    load = {"kind": "stream", "requests": 60, "warm_up": 5, "rate": 100, "customers": ["CUST001"], "messages": texts}
    result = run_load(server.url, "open-loop", questions=questions_of(server.url, ["CUST001"]), output=tmp_path, **load)
    asked = [call["message"] for call in seen(server.url)]
    assert {each["kind"] for each in result.rows} == {"stream"}
    columns = ("error", "served_by", "fallback", "answer")
    outcomes = Counter(tuple(str(each[column]) for column in columns) for each in result.rows)
    assert outcomes == {
        ("", "model", "", ""): asked.count(texts[0]),
        ("", "rules", "not grounded", ""): asked.count("replace this"),
        ("event: error 500", "", "", ""): asked.count("break"),
        ("HTTP 503", "", "", ""): asked.count("fail"),
        ("", "model", "", "wrong"): sum(text not in texts for text in asked),
    }
    assert sum(each["asked"] == "question" for each in result.rows) >= 30
    for number, each in enumerate(result.rows):
        mine = [piece for piece in result.pieces if piece["request"] == number]
        assert len(mine) == (0 if each["phase"] == "warm_up" or each["error"] else each["tokens"])
        assert [piece["place"] for piece in mine] == (["first"] + ["later"] * 9)[: len(mine)]
        assert all(float(piece["gap_ms"]) > 0 for piece in mine[1:])
        assert not mine or 0 < float(each["ttft_ms"]) <= float(each["latency_ms"])


def test_constant_arrivals_have_equal_gaps_and_poisson_arrivals_exponential_ones_of_the_same_mean() -> None:
    assert all(gap == pytest.approx(0.02) for gap in gaps("constant"))
    drawn = gaps("poisson")
    # Mean and standard deviation of an exponential distribution are equal; five standard errors of 20,000 draws.
    assert fmean(drawn) == pytest.approx(0.02, rel=0.036)
    assert stdev(drawn) == pytest.approx(0.02, rel=0.06)
    assert sum(gap > 0.02 for gap in drawn) / len(drawn) == pytest.approx(0.3679, abs=0.017)
    assert gaps("poisson") == drawn
    assert gaps("poisson", seed=4) != drawn


def gaps(arrivals: Arrivals, seed: int = 3) -> list[float]:
    due = list(itertools.islice(due_times(50, arrivals, seed), 20_001))
    assert due[0] == 0
    return [later - earlier for earlier, later in itertools.pairwise(due)]


def writes(*pieces: bytes, close: bool = False) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if close:
            writer.close()

    return answer


@pytest.mark.parametrize(
    ("answer", "status", "length", "error"),
    [
        (writes(OK), 200, 5, ""),
        (writes(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), 503, 0, "HTTP 503"),
        (writes(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), 302, 0, ""),
        (writes(b"HTTP/1.1 200 OK\r\n\r\n", b"hello", close=True), 200, 5, ""),
        (writes(OK[:-1], close=True), 0, "", "ClientPayloadError"),
        (writes(close=True), 0, "", "ServerDisconnectedError"),
        (writes(b"SSH-2.0-OpenSSH_9.6\r\n"), 0, "", "ClientResponseError"),
        (writes(), 0, "", "TimeoutError"),
    ],
    ids=["ok", "503", "redirect", "close", "cut short", "nothing", "not http", "silent"],
)
def test_each_form_of_reply_is_a_row(answer: Answer, status: int, length: object, error: str, tmp_path: Path) -> None:
    rows = asyncio.run(ask(answer, tmp_path))
    assert [(each["status"], each["bytes"], each["error"]) for each in rows] == 3 * [(status, length, error)]


async def ask(answer: Answer, folder: Path) -> list[RequestRow]:
    """Send three chats to a server that gives the chosen answers; return their rows."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
                await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        load = Load(url, "open-loop", **ARGUMENTS, rate=100, requests=3, timeout_s=2)
        return (await asyncio.to_thread(run_open_loop, load, folder)).rows


@pytest.mark.slow
def test_a_stall_shows_in_all_requests_that_were_due_during_it(endpoint: ServerProcess, tmp_path: Path) -> None:
    load = {"rate": 200, "requests": 1000, "arrivals": "constant", **ARGUMENTS}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_load, endpoint.url, "open-loop", output=tmp_path, **load)
        until(lambda: count(endpoint.url) >= 200 or running.done())
        os.kill(endpoint.pid, signal.SIGSTOP)
        began = time.monotonic()
        time.sleep(1)
        frozen_s = time.monotonic() - began
        os.kill(endpoint.pid, signal.SIGCONT)
    waits = [float(each["latency_ms"]) / 1000 for each in running.result().measured]
    assert len(waits) == 1000
    # A request due t seconds after the start of the stall waits at least frozen_s - t; due times are 1 / rate apart.
    for share in (0.25, 0.5, 0.75):
        assert sum(wait > share * frozen_s for wait in waits) >= 200 * frozen_s * (1 - share) - 2


def test_late_sends_make_the_load_invalid() -> None:
    def sent_late(late_ms: float, latency_ms: float, n: int = 700) -> list[RequestRow]:
        return [row(1 + late_ms / 1000, 1 + latency_ms / 1000, 1.0)] * n

    assert lateness_fault(sent_late(4.9, 4)) is None
    assert lateness_fault(sent_late(6, 61)) is None  # less than a tenth of the latency
    fault = "sent 6.0 ms after they were due at p99, over 5 ms and a tenth of the latency (20.0 ms)"
    assert fault in (lateness_fault(sent_late(6, 20, n=samples_needed(0.99))) or "")
    assert lateness_fault(sent_late(6, 20, n=samples_needed(0.99) - 1)) is None
