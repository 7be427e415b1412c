"""Server-sent event streams over real connections: complete, with errors, and after a disconnect."""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time

import httpx
import openai
import psutil
import pytest

from bankllm.assistant.turn import ChatReply
from bankllm.assistant.wording.responder import Reply
from bankllm.assistant.wording.responders.template import TemplateResponder
from bankllm.errors import StoreError
from bankllm.loadtest.server_process import ServerProcess
from bankllm.serving.errors import Problem
from bankllm.serving.openai_api import CORRECTION
from bankllm.settings import Settings
from tests.support.chat import BALANCE
from tests.support.live_server import CHAT, connect, errors_of, logged, request_bytes, served
from tests.support.slow_server import PIECES

STREAM = f"{CHAT}/stream"


class Stub:
    """A responder that yields pieces and then its last item: a reply, or an exception that it raises."""

    name, waits = "stub", True

    def __init__(self, *pieces, last):
        self.pieces, self.last = pieces, last
        self.shown, self.left = threading.Event(), threading.Event()
        self.pause_s = 0.0

    def stream(self, request, facts):
        try:
            for piece in self.pieces:
                yield piece
                self.shown.set()
                time.sleep(self.pause_s)
            if isinstance(self.last, Exception):
                raise self.last
            yield self.last
        finally:
            self.left.set()


@pytest.fixture
def url(engine, caplog):
    caplog.set_level(logging.INFO)
    with served(engine, Settings()) as address:
        yield address


def ask(url, body=BALANCE):
    with httpx.stream("POST", url + STREAM, json=body, timeout=60, trust_env=False) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        return events_in(response.read().decode())


def test_a_stream_is_not_collected_by_proxies_or_chunked_for_http_1_0(url):
    body = json.dumps(BALANCE).encode()
    for version, framing in (("1.0", "Connection: close"), ("1.1", "Transfer-Encoding: chunked")):
        with contextlib.closing(connect(url)) as line:
            sent = request_bytes(STREAM, body, "Connection: close").replace(b"HTTP/1.1", f"HTTP/{version}".encode())
            line.sendall(sent)
            head, _, content = line.makefile("rb").read().decode().partition("\r\n\r\n")
        assert {framing, "x-accel-buffering: no"} <= set(head.split("\r\n"))
        assert content.startswith("event: ") == (version == "1.0")


def completion(url):
    """The text of a streamed completion of OpenAI's client."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        talk = [{"role": "user", "content": BALANCE["message"]}]
        chunks = client.chat.completions.create(model="any", messages=talk, user="CUST001", stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def events_in(text):
    """(event name, data) of each event."""
    assert text.endswith("\n\n")
    parts = [event.split("\n") for event in text.removesuffix("\n\n").split("\n\n")]
    return [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in parts]


def test_streamed_reply_equals_the_plain_reply(url, engine):
    *tokens, (kind, reply) = ask(url, BALANCE | {"conversation_id": "talk-1"})
    plain = httpx.post(url + CHAT, json=BALANCE | {"conversation_id": "talk-2"}, trust_env=False, timeout=60).json()
    kept = engine.memory.for_user("CUST001").export()
    assert ({kind for kind, _ in tokens}, kind) == ({"token"}, "reply")
    assert "".join(data["text"] for _, data in tokens) == reply["reply"]
    assert ChatReply.model_validate(reply).model_dump(mode="json") == reply
    own = {"conversation_id", "request_id", "latency_ms"}
    assert {name: reply[name] for name in reply.keys() - own} == {name: plain[name] for name in plain.keys() - own}
    assert (reply["conversation_id"], len(kept)) == ("talk-1", 2)
    assert kept[0]["assistant_response"] == reply["reply"]


def test_openai_stream_appends_the_fallback_as_a_correction(url, engine):
    engine.responder = Stub("I think ", "it is ", last=Reply("It is £4,907.60.", fallback="cut off"))
    assert completion(url) == f"I think it is {CORRECTION}It is £4,907.60."


@pytest.mark.parametrize(
    ("fault", "status", "detail"),
    [
        (ZeroDivisionError("secret detail"), 500, "has the details under this request id"),
        (StoreError("/secret/path cannot be read"), 503, "message store is unavailable. Please try again later"),
    ],
)
def test_error_during_a_stream_is_an_event(url, engine, caplog, fault, status, detail):
    engine.responder = Stub("Your ", "balance ", last=fault)
    *tokens, (kind, problem) = ask(url)
    assert [data["text"] for _, data in tokens] == ["Your ", "balance "]
    assert kind == "error"
    assert Problem.model_validate(problem).model_dump(exclude_none=True) == problem
    assert problem["status"] == status
    assert detail in problem["detail"]
    assert "secret" not in json.dumps(problem)
    assert problem["request_id"] in " ".join(errors_of(caplog))
    assert engine.memory.for_user("CUST001").export() == [], "a reply that was not delivered is not stored"
    with pytest.raises(openai.APIError, match=r"has the details|try again later") as caught:
        completion(url)
    assert caught.value.code == str(status)
    assert len(errors_of(caplog)) == 2
    engine.responder = TemplateResponder()
    assert ask(url)[-1][0] == "reply"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (STREAM, BALANCE),
        ("/v1/chat/completions", {"stream": True, "user": "CUST001", "messages": [{"role": "user", "content": "hi"}]}),
    ],
)
def test_disconnect_stops_the_responder_and_stores_nothing(url, engine, caplog, path, body):
    engine.responder = left = Stub(*["word "] * 2000, last=Reply("word " * 2000))
    left.pause_s = 0.05
    with contextlib.closing(connect(url)) as line:
        line.sendall(request_bytes(path, json.dumps(body).encode()))
        assert line.recv(100).startswith(b"HTTP/1.1 200 OK")
        assert left.shown.wait(60)
    assert left.left.wait(60), "the responder continues after the client disconnected"
    engine.responder = TemplateResponder()
    assert ask(url)[-1][0] == "reply"
    assert [turn["user_message"] for turn in engine.memory.for_user("CUST001").export()] == [BALANCE["message"]]
    assert errors_of(caplog) == []
    lines = [record.route for record in caplog.records if record.name == "bankllm.access"]
    assert lines[:1] == [path], "a request with a disconnected client is logged too"


@pytest.mark.slow
def test_running_stream_is_completed_after_sigterm(tmp_path):
    log = tmp_path / "server.log"
    program = (sys.executable, "-m", "tests.support.slow_server")
    with ServerProcess(program=program, store=tmp_path / "memory.sqlite", log=log) as server:
        process = psutil.Process(server.pid)
        with httpx.stream("POST", server.url + STREAM, json=BALANCE, timeout=60, trust_env=False) as response:
            text = ""
            for part in response.iter_text():
                if not text:
                    os.kill(server.pid, signal.SIGTERM)
                text += part
        process.wait(60)
    *tokens, (kind, reply) = events_in(text)
    assert [data["text"] for _, data in tokens] == list(PIECES)
    assert (kind, reply["reply"], reply["unavailable"]) == ("reply", "".join(PIECES), [])
    assert server.returncode == 0
    assert logged(log, "ERROR") == []
