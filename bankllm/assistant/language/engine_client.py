"""A worker's requests to the language model's process (`engine_process`), one connection each."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection
from typing import Any, NamedTuple

from bankllm.assistant.caller import Caller
from bankllm.assistant.language.engine_turns import CHECK_S, Task
from bankllm.assistant.language.fallbacks import GenerationFailed
from bankllm.model.generation import GenerationRequest, TextStream

ANSWER_S = 1.0
"""In which the process must accept a request. Otherwise it hangs."""


@dataclass(frozen=True)
class CallersRequest(GenerationRequest):
    """A request whose caller may leave, and waits only until its deadline."""

    task: Task = "word"
    caller: Caller = field(default_factory=Caller)


class Generated(NamedTuple):
    """What a text took. Times are in seconds from the arrival of its request."""

    task: Task
    queue_s: float
    first_s: float
    """The first token."""
    total_s: float
    prompt_tokens: int
    output_tokens: int
    batch: float
    """Mean number of texts that were generated together, this one included."""


class RemoteStream(TextStream):
    """The text of a request. What ends its iteration also ends the request in the process."""

    def __init__(self, connection: Connection, request: CallersRequest, observe: Callable[[Generated], None]) -> None:
        super().__init__(None)
        self._connection, self._request, self._observe = connection, request, observe
        self._arrived = time.monotonic()
        self._queue_s, self._step = 0.0, [0, 0]

    def __iter__(self) -> Iterator[str]:
        """Yield the text in pieces. Raises `GenerationFailed`."""
        caller, first_s, tokens, together = self._request.caller, 0.0, 0, list[int]()
        try:
            with self._connection:
                while self.finish is None:
                    if caller.is_set() or self.cancelled.is_set():
                        self.finish = "cancelled"
                    elif time.monotonic() > caller.deadline:
                        self.finish = "late"
                    elif self._connection.poll(CHECK_S) and (text := self._read(*self._connection.recv())):
                        first_s = first_s or time.monotonic() - self._arrived
                        tokens, running = self._step
                        together.append(running)
                        yield text
        except (EOFError, OSError):
            raise GenerationFailed("unreachable") from None
        finally:
            if together:
                total_s, batch = time.monotonic() - self._arrived, sum(together) / len(together)
                times = (self._queue_s, first_s, total_s)
                self._observe(Generated(self._request.task, *times, self.prompt_tokens, tokens, batch))

    def _read(self, kind: Any, *what: Any) -> str:
        """Take over what the process says; return a piece of text, if it is one."""
        match kind:
            case "text":
                text, self.confidence, *self._step = what
                self.written += text
                return str(text)
            case "began":
                self._queue_s, self.prompt_tokens = what
            case "end":
                (self.finish,) = what
            case _:
                raise GenerationFailed(kind)
        return ""


class EngineClient:
    """A `GenerationEngine` in another process. While that is down, requests fail at once."""

    def __init__(self, address: str, name: str) -> None:
        self.name, self._address = name, address
        self.observe: Callable[[Generated], None] = lambda generated: None
        """Called after each text, complete or not; for metrics."""

    def generate(self, requests: Sequence[GenerationRequest]) -> list[TextStream]:
        """Raises `GenerationFailed` if the process is down or hangs."""
        return [self._start(request) for request in requests]

    def _start(self, request: GenerationRequest) -> TextStream:
        asked = request if isinstance(request, CallersRequest) else CallersRequest(**vars(request))
        plain = GenerationRequest(request.chat, request.max_tokens, request.schema)
        try:
            connection = self._connected(min(ANSWER_S, asked.caller.deadline - time.monotonic()))
            connection.send((plain, asked.task, asked.caller.customer_id, asked.caller.deadline))
        except (EOFError, OSError):
            late = time.monotonic() >= asked.caller.deadline
            raise GenerationFailed("time-out" if late else "unreachable") from None
        return RemoteStream(connection, asked, self.observe)

    def _connected(self, timeout_s: float = ANSWER_S) -> Connection:
        """Connect. Raises `OSError` or `EOFError` if the process is down, is being killed, or hangs."""
        connection = Client(self._address, "AF_UNIX")
        if not connection.poll(max(0.0, timeout_s)):
            raise OSError("the language model's process does not answer")
        connection.recv()
        return connection

    def wait(self, seconds: float) -> bool:
        """Wait until the process has loaded the model; return whether it has."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                self._connected().close()
                return True
            except (EOFError, OSError):
                time.sleep(CHECK_S)
        return False

    def close(self) -> None:
        """Nothing to do: each text has a connection of its own."""
