"""Where our server's time goes under load: the share of the machine's GEMM peak that classification reaches, CPU
seconds by thread, py-spy's samples by module and by function.

python tests/benchmarks/profile_server.py --seconds 15          # needs ptrace: root, or kernel.yama.ptrace_scope=0
python tests/benchmarks/profile_server.py --native --top 30     # the frames of C and C++ code too

The peak is the best fp32 product of two 2048 × 2048 matrices before the server starts. A token counts two operations
for each weight of the graph that it is multiplied by; attention between tokens, norms and padding do not count.
A sample is a thread that ran, not one that waited; a module's and a function's share leaves out what they called.
py-spy must pause the server to see native frames: few samples a second then, and the rate of chats means nothing.
"""

import argparse
import math
import re
import shutil
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import psutil
import servers
import wrk
from gemm_share import peak_gflops
from serving import random_queries

from bankllm import datasets
from bankllm.assistant.engine import DEFAULT_ADAPTER
from bankllm.errors import BankLLMError, NotMeasured, ServerError
from bankllm.model.export import exported
from bankllm.model.onnx_classifier import OnnxClassifier
from bankllm.settings import Settings, get_settings
from bankllm.util import processes

SAMPLES_A_SECOND, NATIVE_SAMPLES_A_SECOND = 100, 5
WARM_UP_S = 5
WAITING = re.compile(
    r"^((Condition\.)?wait|(Epoll)?Selector\.select|select|epoll_wait|_worker|0x[0-9a-f]+) "
    r"\((threading\.py|selectors\.py|concurrent/futures/thread\.py|libc\.so).*\)$"
)
"""Innermost frames of a thread that has nothing to do. A paused thread looks like a running one to py-spy; in libc
the nameless call is the futex that locks wait with."""


@dataclass(frozen=True)
class Stack:
    """A thread at some moments: its number and name, the frame it was in (the innermost), how many samples."""

    thread: int
    name: str
    frame: str
    samples: int


def read_stacks(text: str) -> Iterator[Stack]:
    """Lines of py-spy's `raw` format, outermost frame first: `thread (17): encoder;run (a.py:3);score (b.py:9) 4`."""
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        found = re.search(r"(?:^|;)thread \((\d+)\)(?:: ([^;]*))?;", frames)
        frame = re.sub(r":\d+\)$", ")", frames.rpartition(";")[2])
        if found and not WAITING.match(frame):
            yield Stack(int(found[1]), _pool_name(found[2] or "unnamed"), frame, int(count))


def _pool_name(name: str) -> str:
    """Without the number of the thread, so that a pool counts as one."""
    return re.sub(r"[-_ ]*\d+$", "", name)


def module_of(frame: str) -> str:
    """`score (bankllm/model/encoder.py)` → `bankllm/model/encoder.py`; a native frame gives its library."""
    return frame.rpartition("(")[2].rstrip(")")


def record(pid: int, output: Path, seconds: int, native: bool) -> str:
    """Sample a process and its children. Raises `NotMeasured` without py-spy, `ServerError` if it may not look."""
    program = shutil.which("py-spy", path=sysconfig.get_path("scripts")) or shutil.which("py-spy")
    if program is None:
        raise NotMeasured("py-spy not found; install it (pip install py-spy) and run again.")
    rate = NATIVE_SAMPLES_A_SECOND if native else SAMPLES_A_SECOND
    command = [program, "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(rate)]
    command += ["--format", "raw", "--output", str(output), "--threads", "--subprocesses"]
    log = output.with_suffix(".log")
    child = processes.run([*command, "--native" if native else "--nonblocking"], log, seconds + 60)
    if child.returncode or not output.exists():
        raise ServerError(
            f"py-spy recorded nothing; run as root, or allow ptrace. Expected {output.name}; it said:\n"
            f"{processes.tail(log)}"
        )
    return output.read_text(encoding="utf-8")


def cpu_seconds(pid: int) -> dict[int, float]:
    """CPU time so far of each thread of a process and its children, by the thread's number."""
    server = psutil.Process(pid)
    found = [thread for process in (server, *server.children(recursive=True)) for thread in process.threads()]
    return {thread.id: thread.user_time + thread.system_time for thread in found}


def by_thread(spent: Mapping[int, float], stacks: Sequence[Stack]) -> dict[str, float]:
    """CPU seconds by thread name; a thread that py-spy never saw run has no name."""
    names = {stack.thread: stack.name for stack in stacks}
    summed: defaultdict[str, float] = defaultdict(float)
    for thread, seconds in spent.items():
        summed[names.get(thread, "(no sample)")] += seconds
    return dict(summed)


def by_frame(stacks: Sequence[Stack], said: Callable[[str], str]) -> dict[str, float]:
    """Samples by thread name and what `said` makes of the frame."""
    summed: defaultdict[str, float] = defaultdict(float)
    for stack in stacks:
        summed[f"{stack.name}: {said(stack.frame)}"] += stack.samples
    return dict(summed)


def flops_of_a_text(texts: Sequence[str], adapter: Path, settings: Settings) -> float:
    """Floating-point operations that classifying one of these texts takes, on average."""
    graph = exported(adapter, "fp32", settings)
    tokens = OnnxClassifier.load(graph, threads=1).count_tokens(texts) / len(texts)
    model = onnx.load(graph).graph
    weights = {tensor.name: tensor.dims for tensor in model.initializer if len(tensor.dims) == 2}
    multiplied = [
        weights[node.input[1]] for node in model.node if node.op_type == "MatMul" and node.input[1] in weights
    ]
    return 2 * tokens * sum(math.prod(dims) for dims in multiplied)


def show(title: str, parts: Mapping[str, float], top: int) -> None:
    """Shares of the whole, largest first."""
    print(title)
    for name, part in sorted(parts.items(), key=lambda item: -item[1])[:top]:
        print(f"  {part / sum(parts.values()):6.1%}  {name[:150]}")


def run(options: argparse.Namespace) -> None:
    wrk.require()
    texts = datasets.load(options.dataset).test.texts
    queries = random_queries(texts, seed=0)
    calls = servers.chats(queries, servers.CUSTOMERS[: options.customers])
    flops, peak = flops_of_a_text(queries, DEFAULT_ADAPTER, get_settings()), peak_gflops()
    mine = servers.ours(options)
    with (
        TemporaryDirectory(prefix="bankllm-profile-") as name,
        servers.start(mine, Path(name)) as server,
        ThreadPoolExecutor(1, "load") as pool,
    ):
        folder, url, connections = Path(name), server.url + mine.path, options.connections
        wrk.drive(calls, url, folder, seconds=WARM_UP_S, connections=connections)
        length = options.seconds + WARM_UP_S
        load = pool.submit(wrk.drive, calls, url, folder, seconds=length, connections=connections)
        before = cpu_seconds(server.pid)
        stacks = list(read_stacks(record(server.pid, folder / "stacks.txt", options.seconds, options.native)))
        spent = {thread: seconds - before.get(thread, 0.0) for thread, seconds in cpu_seconds(server.pid).items()}
        window = load.result()
    if not stacks:
        raise ServerError(f"py-spy saw no thread run in {options.seconds} s. Sample for longer (--seconds).")
    reached = flops * window.per_second / 1e9
    print(f"{window.per_second:.1f} chats/s while sampled, errors {window.errors or 0}")
    print(f"classification: {reached:.0f} GFLOP/s, {reached / peak:.0%} of the machine's {peak:.0f}")
    show(f"CPU by thread: {sum(spent.values()):.1f} s, all of it", by_thread(spent, stacks), options.top)
    samples = sum(stack.samples for stack in stacks)
    show(f"samples by module: {samples:,}", by_frame(stacks, module_of), options.top)
    show(f"samples by function: {samples:,}", by_frame(stacks, str), options.top)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=15, help="of sampling")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--native", action="store_true", help="frames of C and C++ code too")
    parser.add_argument("--top", type=int, default=15, help="lines a table")
    parser.add_argument("--dataset", default="auto")
    servers.add_options(parser)
    try:
        run(parser.parse_args())
    except BankLLMError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
