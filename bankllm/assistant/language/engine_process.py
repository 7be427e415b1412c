"""The language model in a process of its own, which all workers of a server share, and which is restarted if it ends.

    python -m bankllm.assistant.language.engine_process SOCKET ADAPTER    # started by `EngineProcess`

One engine for all workers needs its memory once, and their requests share passes. If it is killed, no reply is lost.
"""

import atexit
import contextlib
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import psutil

from bankllm.assistant.language.engine_turns import Busy, Turn, Turns
from bankllm.errors import BankLLMError, UsageError
from bankllm.model import base_models
from bankllm.model.generation import GenerationEngine, check_base
from bankllm.model.generation.merged_weights import cached_gguf
from bankllm.model.generation.openvino_engine import OpenVinoEngine
from bankllm.settings import get_settings

logger = logging.getLogger(__name__)

WEIGHTS = "Q8_0"
"""A third of the memory of 16 bits. Of 96 texts for TellerChat's test set 40 are exactly right, with 16 bits 39; 61 of
64 texts that understand a message are the same, and 24 of 32 that word a reply."""
NEEDED_BYTES = 900 * 2**20
"""Free memory without which the engine is not started; it has 737 MiB after some use."""
RETRY_S, LONGEST_RETRY_S = 0.5, 60.0
"""Pause before a restart. It doubles each time that the engine ends within `LONGEST_RETRY_S` of its start."""
NICENESS = 10
"""Of the threads that generate: the encoder and the rules go before the model, whose requests they can answer."""
CGROUP = Path("/sys/fs/cgroup")


class EngineProcess:
    """Starts the engine and restarts it, from a thread, until `close`. `address` is its socket."""

    def __init__(self, adapter: Path | None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bankllm-engine-"))
        self.address = str(self._folder / "socket")
        self._adapter = adapter
        self._closed = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._supervise, name="language engine", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """End the engine, and remove its socket."""
        self._closed.set()
        if self._process is not None:
            self._process.kill()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _supervise(self) -> None:
        pause = RETRY_S
        while not self._closed.is_set():
            began, fault = time.monotonic(), self._run()
            if self._closed.is_set():
                return
            pause = RETRY_S if time.monotonic() - began > LONGEST_RETRY_S else min(2 * pause, LONGEST_RETRY_S)
            logger.error("no language model: %s; rules and templates answer, next start in %g s", fault, pause)
            self._closed.wait(pause)

    def _run(self) -> str:
        """Run the engine to its end. Return why it ended."""
        if (free := free_bytes()) < NEEDED_BYTES:
            return f"expected {NEEDED_BYTES >> 20} MiB of free memory, found {free >> 20} MiB"
        command = [
            sys.executable,
            "-m",
            "bankllm.assistant.language.engine_process",
            self.address,
            str(self._adapter or ""),
        ]
        # The engine ends when its stdin does, and so with this process, even if that is killed. Ctrl-C does not reach
        # its process group. With a session of its own, its niceness would not count: Linux gives each session an equal
        # share of the cores (sched_autogroup_enabled).
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        with subprocess.Popen(command, **pipes, text=True, process_group=0) as self._process:
            if self._closed.is_set():
                self._process.kill()
            assert self._process.stderr is not None
            said = self._process.stderr.read().strip().splitlines()
            code = self._process.wait()
        return f"its process ended with exit code {code}" + (f" ({said[-1][:500]})" if said and code > 0 else "")


def free_bytes() -> int:
    """Memory that this process can still take, within the limit of its container."""
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or no limit (`max`)
        limit = int((CGROUP / "memory.max").read_text())
        free = min(free, limit - int((CGROUP / "memory.current").read_text()))
    return free


def main() -> None:
    address, adapter = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = Path(adapter) if adapter else None
    # In another process, which takes 1 GB for it and ends.
    writer = multiprocessing.get_context("spawn").Process(target=_write_file, args=(folder,))
    writer.start()
    writer.join()
    try:
        base = base_models.resolve("smollm2")
        if folder is not None:
            check_base(folder, base)
        engine = OpenVinoEngine(base, folder, get_settings(), WEIGHTS)
    except BankLLMError as error:
        sys.exit(" ".join(str(error).split()))
    if sys.platform == "linux":
        _give_way()
    turns = Turns()
    Path(address).unlink(missing_ok=True)  # of an engine that was killed
    with Listener(address, "AF_UNIX", backlog=64) as listener:
        while True:
            with contextlib.suppress(OSError):
                client = listener.accept()
                threading.Thread(target=_serve, args=(client, engine, turns), daemon=True).start()


def _write_file(adapter: Path | None) -> None:
    """Write the engine's file of the model, if it is missing."""
    with contextlib.suppress(BankLLMError):  # which the engine raises again
        cached_gguf(base_models.resolve("smollm2"), adapter, WEIGHTS, get_settings())


def _serve(client: Connection, engine: GenerationEngine, turns: Turns) -> None:
    """Answer one request. If the client disconnects, its text ends with the token that is being generated."""
    with client, contextlib.suppress(EOFError, OSError):
        client.send("ready")
        request, task, customer_id, deadline = client.recv()
        turn = Turn(task, customer_id, deadline)
        try:
            with turns.take(turn, client.poll):
                (stream,) = engine.generate([request])
                client.send(("began", time.monotonic() - turn.arrived, stream.prompt_tokens))
                try:
                    for text in stream:
                        client.send(("text", text, stream.confidence, len(stream.token_ids), turns.running))
                finally:
                    stream.cancel()
                client.send(("end", stream.finish))
        except Busy:
            client.send(("busy",))
        except UsageError:
            client.send(("unreadable",))
        except (BankLLMError, RuntimeError, ValueError):  # a grammar that cannot be compiled, among others
            client.send(("failed",))


def _give_way() -> None:
    """Lower the priority of the threads that generate, after they have loaded the model.

    Those that accept and refuse requests keep theirs: else requests wait for a process that gets no core.
    """
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for thread in psutil.Process().threads():
        if thread.id != threading.get_native_id():
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, thread.id, own + NICENESS)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
