"""The soak samples memory during the load and passes on errors; stored messages are deleted, or an error says so."""

import threading

import httpx
import pytest

from bankllm.errors import ServerError
from bankllm.loadtest.experiments.soak import delete_memory, soak
from bankllm.loadtest.load import LoadResult
from bankllm.loadtest.server_process import ServerProcess
from tests.support.queue_model import open_loop


def test_memory_is_sampled_until_the_load_ends() -> None:
    reached = threading.Event()
    reads: list[int] = []

    def rss_bytes() -> int:
        reads.append(1)
        if len(reads) == 5:
            reached.set()
        return 100 + len(reads)

    called: list[int] = []

    def load() -> LoadResult:
        assert called == [1], "once before the load"
        assert reached.wait(10)
        return open_loop(50, 130)

    result, memory = soak(load, rss_bytes, sample_s=0.01, between=lambda: called.append(1), every_s=0.015)
    assert len(result.rows) == 130
    assert len(memory) == len(reads) >= 5
    assert [row["rss_bytes"] for row in memory] == [101 + number for number in range(len(reads))]
    assert 2 <= len(called) <= len(reads)


def test_a_failing_load_ends_the_sampling() -> None:
    def load() -> LoadResult:
        raise ServerError("gone")

    with pytest.raises(ServerError, match="gone"):
        soak(load, lambda: 1, sample_s=0.01)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("memory")]


def test_an_error_while_sampling_is_raised() -> None:
    def gone() -> int:
        raise ServerError("The server was not started")

    with pytest.raises(ServerError, match="not started"):
        soak(lambda: open_loop(50, 130), gone, sample_s=0.01)


def test_the_messages_of_each_customer_are_deleted(server: ServerProcess) -> None:
    delete_memory(server.url, ["CUST001", "CUST002"])
    assert httpx.get(f"{server.url}/seen", timeout=60).json() == [
        {"kind": "delete", "customer_id": f"CUST00{n}"} for n in (1, 2)
    ]
    with pytest.raises(ServerError, match=r"DELETE .*CUST404/memory: expected success, found HTTP 404"):
        delete_memory(server.url, ["CUST404"])
