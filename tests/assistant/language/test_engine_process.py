"""The language model's process: deadlines, callers that leave, texts that cannot be read, and its loss.

It has the untrained model, whose texts do not matter here.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from bankllm.assistant.bank.tools import calls_schema
from bankllm.assistant.caller import Caller
from bankllm.assistant.language import engine_process
from bankllm.assistant.language.engine_client import CallersRequest, EngineClient, Generated
from bankllm.assistant.language.engine_process import NICENESS, EngineProcess
from bankllm.assistant.language.engine_turns import AT_ONCE
from bankllm.assistant.language.fallbacks import GenerationFailed
from bankllm.model import smollm2
from tests.support.server_client import until

pytest.importorskip("openvino_genai")
if smollm2.gguf_file() is None:
    pytest.skip(f"SmolLM2 is not installed: {smollm2.INSTALL}", allow_module_level=True)
pytestmark = pytest.mark.slow
CHAT = [{"role": "user", "content": "Count from one to a thousand."}]


@pytest.fixture(scope="module")
def process() -> Iterator[EngineProcess]:
    started = EngineProcess(None)
    yield started
    started.close()


@pytest.fixture(scope="module")
def client(process: EngineProcess) -> EngineClient:
    connected = EngineClient(process.address, "openvino:SmolLM2")
    assert connected.wait(120)
    return connected


def written(client: EngineClient, caller: Caller, tokens: int = 400) -> str | None:
    """Why the text of a request ended."""
    [stream] = client.generate([CallersRequest(CHAT, tokens, caller=caller)])
    stream.text()
    return stream.finish


def test_a_text_comes_with_its_times_and_tokens(client: EngineClient) -> None:
    seen: list[Generated] = []
    client.observe = seen.append
    request = CallersRequest(CHAT, 4, task="understand", caller=Caller("CUST001"))
    [stream] = client.generate([request])
    assert (bool(stream.text()), stream.finish) == (True, "length")
    [text] = seen
    assert (text.task, text.output_tokens, text.batch) == ("understand", 4, 1)
    assert text.prompt_tokens > 20
    assert 0 <= text.queue_s < text.first_s <= text.total_s


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own only on Linux")
def test_only_the_threads_that_generate_give_way_to_the_server(client: EngineClient, process: EngineProcess) -> None:
    [child] = [child for child in psutil.Process().children() if process.address in child.cmdline()]
    niceness = {thread.id: os.getpriority(os.PRIO_PROCESS, thread.id) for thread in child.threads()}
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness[child.pid] == own
    assert min(own + NICENESS, 19) in niceness.values()
    assert os.getsid(child.pid) == os.getsid(0), "Linux may give each session an equal share of the cores"


def test_a_deadline_and_a_caller_that_leaves_free_the_engine(client: EngineClient) -> None:
    callers = [Caller(f"C{number}") for number in range(AT_ONCE)]
    streams = client.generate([CallersRequest(CHAT, 8000, caller=caller) for caller in callers])
    pieces = [iter(stream) for stream in streams]
    for each in pieces:
        next(each)
    for caller in callers:
        caller.set()
    for each in pieces:
        list(each)
    assert {stream.finish for stream in streams} == {"cancelled"}
    assert written(client, Caller("C1"), tokens=2) == "length", "8,000 tokens would take minutes"
    late = Caller("C1")
    [stream] = client.generate([CallersRequest(CHAT, 8000, caller=late)])
    for _ in stream:
        late.deadline = time.monotonic()
    assert stream.finish == "late"


def test_a_prompt_without_room_and_a_constraint_that_cannot_be_met_fail_only_themselves(client: EngineClient) -> None:
    with pytest.raises(GenerationFailed, match="unreadable"):
        written(client, Caller(), tokens=8192)
    with pytest.raises(GenerationFailed, match="unreadable"):
        client.generate([CallersRequest(CHAT, 9, {"type": "number"})])[0].text()
    assert client.generate([CallersRequest(CHAT, 40, calls_schema())])[0].text().startswith("[")


def test_a_killed_engine_fails_its_requests_at_once_and_comes_back(
    client: EngineClient, process: EngineProcess, caplog: pytest.LogCaptureFixture
) -> None:
    [stream] = client.generate([CallersRequest(CHAT, 400, caller=Caller())])
    pieces = iter(stream)
    next(pieces)
    [child] = [child for child in psutil.Process().children() if process.address in child.cmdline()]
    child.kill()
    with pytest.raises(GenerationFailed, match="unreachable"):
        list(pieces)
    until(lambda: client.wait(1))
    assert written(client, Caller(), tokens=2) == "length"
    assert "its process ended with exit code -9" in caplog.text


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(engine_process, "NEEDED_BYTES", 2**60)
    caplog.set_level(logging.ERROR)
    started = EngineProcess(None)
    until(lambda: "MiB of free memory, found" in caplog.text)
    with pytest.raises(GenerationFailed, match="unreachable"):
        EngineClient(started.address, "openvino:SmolLM2").generate([CallersRequest(CHAT, 4)])
    started.close()
