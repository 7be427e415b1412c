"""Profile of our server under load: share of the machine's GEMM peak that classification reaches, CPU seconds by
thread, and py-spy's samples by module and by function.

python benchmarks/profile_server.py --seconds 15          # needs ptrace: root, or kernel.yama.ptrace_scope=0
python benchmarks/profile_server.py --native --top 30     # also the frames of C and C++ code

The peak is the best fp32 product of two 2048 × 2048 matrices before the server starts. A token counts two operations
for each weight of the graph that multiplies it; attention between tokens, norms and padding do not count. A sample is a
thread that runs, not one that waits. The share of a module or function leaves out the functions that it calls. With
--native, py-spy pauses the server for each sample: there are few samples per second, and the rate of chats is not
meaningful.
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
from bankllm.assistant.runtime import DEFAULT_ADAPTER
from bankllm.errors import BankLLMError, NotMeasured, ServerError
from bankllm.model.export import cached_export
from bankllm.model.onnx_classifier import OnnxClassifier
from bankllm.settings import Settings, get_settings
from bankllm.util import processes

SAMPLES_PER_SECOND, NATIVE_SAMPLES_PER_SECOND = 100, 5
WARM_UP_S = 5
WAITING = re.compile(
    r"^((Condition\.)?wait|(Epoll)?Selector\.select|select|epoll_wait|_worker|0x[0-9a-f]+) "
    r"\((threading\.py|selectors\.py|concurrent/futures/thread\.py|libc\.so).*\)$"
)
"""Innermost frames of a waiting thread. py-spy cannot tell a paused thread from a running one. The unnamed function in
libc is the futex call that locks wait in."""


@dataclass(frozen=True)
class Stack:
    """Samples of a thread: its id and name, the innermost frame, and the number of samples."""

    thread: int
    name: str
    frame: str
    samples: int


def read_stacks(text: str) -> Iterator[Stack]:
    """Parse py-spy's `raw` format, outermost frame first: `thread (17): encoder;run (a.py:3);score (b.py:9) 4`.

    Samples of waiting threads are left out.
    """
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        match = re.search(r"(?:^|;)thread \((\d+)\)(?:: ([^;]*))?;", frames)
        frame = re.sub(r":\d+\)$", ")", frames.rpartition(";")[2])
        if match and not WAITING.match(frame):
            yield Stack(int(match[1]), _pool_name(match[2] or "unnamed"), frame, int(count))


def _pool_name(name: str) -> str:
    """Return a thread's name without its number, so that all threads of a pool have one name."""
    return re.sub(r"[-_ ]*\d+$", "", name)


def module_of(frame: str) -> str:
    """`score (bankllm/model/encoder.py)` → `bankllm/model/encoder.py`; a native frame returns its library."""
    return frame.rpartition("(")[2].rstrip(")")


def record(pid: int, output: Path, seconds: int, native: bool) -> str:
    """Sample a process and its children with py-spy, and return its output.

    Raises `NotMeasured` without py-spy, and `ServerError` if py-spy is not allowed to read the process.
    """
    program = shutil.which("py-spy", path=sysconfig.get_path("scripts")) or shutil.which("py-spy")
    if program is None:
        raise NotMeasured("py-spy not found; install it (pip install py-spy) and run again.")
    rate = NATIVE_SAMPLES_PER_SECOND if native else SAMPLES_PER_SECOND
    command = [program, "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(rate)]
    command += ["--format", "raw", "--output", str(output), "--threads", "--subprocesses"]
    log = output.with_suffix(".log")
    child = processes.run([*command, "--native" if native else "--nonblocking"], log, seconds + 60)
    if child.returncode or not output.exists():
        raise ServerError(
            f"py-spy did not write {output.name}. Run as root, or allow ptrace. The end of py-spy's log:\n"
            f"{processes.tail(log)}"
        )
    return output.read_text(encoding="utf-8")


def cpu_seconds(pid: int) -> dict[int, float]:
    """Return thread id → CPU time in s since the start, for a process and its children."""
    server = psutil.Process(pid)
    threads = [thread for process in (server, *server.children(recursive=True)) for thread in process.threads()]
    return {thread.id: thread.user_time + thread.system_time for thread in threads}


def by_thread(thread_seconds: Mapping[int, float], stacks: Sequence[Stack]) -> dict[str, float]:
    """Return thread name → CPU seconds. A thread without a sample has no name."""
    names = {stack.thread: stack.name for stack in stacks}
    summed: defaultdict[str, float] = defaultdict(float)
    for thread, seconds in thread_seconds.items():
        summed[names.get(thread, "(no sample)")] += seconds
    return dict(summed)


def by_frame(stacks: Sequence[Stack], name_of: Callable[[str], str]) -> dict[str, float]:
    """Return samples by thread name and `name_of(frame)`."""
    summed: defaultdict[str, float] = defaultdict(float)
    for stack in stacks:
        summed[f"{stack.name}: {name_of(stack.frame)}"] += stack.samples
    return dict(summed)


def flops_per_text(texts: Sequence[str], adapter: Path, settings: Settings) -> float:
    """Return the mean number of floating-point operations to classify one of these texts."""
    graph = cached_export(adapter, settings)
    tokens = OnnxClassifier.load(graph, threads=1).count_tokens(texts) / len(texts)
    model = onnx.load(graph).graph
    weights = {tensor.name: tensor.dims for tensor in model.initializer if len(tensor.dims) == 2}
    multiplied = [
        weights[node.input[1]] for node in model.node if node.op_type == "MatMul" and node.input[1] in weights
    ]
    return 2 * tokens * sum(math.prod(dims) for dims in multiplied)


def show(title: str, parts: Mapping[str, float], top: int) -> None:
    """Print the largest shares of the total, in descending order."""
    print(title)
    for name, part in sorted(parts.items(), key=lambda item: -item[1])[:top]:
        print(f"  {part / sum(parts.values()):6.1%}  {name[:150]}")


def run(options: argparse.Namespace) -> None:
    wrk.require()
    texts = datasets.load(options.dataset).test.texts
    queries = random_queries(texts, seed=0)
    calls = servers.chats(queries, servers.CUSTOMERS[: options.customers])
    flops, peak = flops_per_text(queries, DEFAULT_ADAPTER, get_settings()), peak_gflops()
    contender = servers.ours(options)
    with (
        TemporaryDirectory(prefix="bankllm-profile-") as name,
        servers.start(contender, Path(name)) as server,
        ThreadPoolExecutor(1, "load") as pool,
    ):
        folder, url, connections = Path(name), server.url + contender.path, options.connections
        wrk.drive(calls, url, folder, seconds=WARM_UP_S, connections=connections)
        length = options.seconds + WARM_UP_S
        load = pool.submit(wrk.drive, calls, url, folder, seconds=length, connections=connections)
        before = cpu_seconds(server.pid)
        stacks = list(read_stacks(record(server.pid, folder / "stacks.txt", options.seconds, options.native)))
        thread_seconds = {
            thread: seconds - before.get(thread, 0.0) for thread, seconds in cpu_seconds(server.pid).items()
        }
        window = load.result()
    if not stacks:
        raise ServerError(f"py-spy found no running thread in {options.seconds} s. Use a larger --seconds.")
    reached = flops * window.per_second / 1e9
    print(f"{window.per_second:.1f} chats/s during sampling, errors {window.errors or 0}")
    print(f"classification: {reached:.0f} GFLOP/s, {reached / peak:.0%} of the machine's peak of {peak:.0f}")
    show(
        f"CPU by thread: {sum(thread_seconds.values()):.1f} s in total", by_thread(thread_seconds, stacks), options.top
    )
    samples = sum(stack.samples for stack in stacks)
    show(f"samples by module: {samples:,}", by_frame(stacks, module_of), options.top)
    show(f"samples by function: {samples:,}", by_frame(stacks, str), options.top)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=15, help="seconds of sampling")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--native", action="store_true", help="also sample frames of C and C++ code")
    parser.add_argument("--top", type=int, default=15, help="lines per table")
    parser.add_argument("--dataset", default="auto")
    servers.add_options(parser)
    try:
        run(parser.parse_args())
    except BankLLMError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
