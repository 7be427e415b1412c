"""Where our server's time goes while it is under load: py-spy's samples by thread, by module, and by function.

python tests/benchmarks/profile_server.py --seconds 15            # needs ptrace: root, or a parent of the server
python tests/benchmarks/profile_server.py --native --top 30       # with the frames of C and C++ code

A sample is a thread that was running, not one that waited. A share is of all samples: 100 % is all that the server's
processes did. A module's and a function's share is what they did themselves, without what they called.
"""

import argparse
import re
import shutil
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import servers
import wrk
from serving import random_queries

from bankllm import datasets, processes
from bankllm.errors import BankLLMError, NotMeasured, ServerError

SAMPLES_A_SECOND = 100
WARM_UP_S = 5
Stack = tuple[tuple[str, ...], int]
"""Frames from the outermost on, the thread's name first, and how many samples had them."""


def record(pid: int, output: Path, seconds: int, native: bool) -> list[Stack]:
    """Sample a process and its children. Raises `NotMeasured` without py-spy, `ServerError` if it may not look."""
    program = shutil.which("py-spy", path=sysconfig.get_path("scripts")) or shutil.which("py-spy")
    if program is None:
        raise NotMeasured("py-spy not found; install it (pip install py-spy) and run again.")
    command = [program, "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(SAMPLES_A_SECOND)]
    command += ["--format", "raw", "--output", str(output), "--threads", "--subprocesses"]
    child = processes.run([*command, *(["--native"] if native else [])], output.with_suffix(".log"), seconds + 60)
    if child.returncode or not output.exists():
        said = processes.tail(output.with_suffix(".log"))
        raise ServerError(f"py-spy recorded nothing; it may need root, or ptrace to be allowed. It said:\n{said}")
    return list(read_stacks(output.read_text(encoding="utf-8")))


def read_stacks(text: str) -> Iterator[Stack]:
    """Lines of py-spy's `raw` format: frames between semicolons, a space, a count."""
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        if frames:
            yield tuple(frames.split(";")), int(count)


def thread_of(stack: Stack) -> str:
    """The thread's name without its number, so that a pool counts as one."""
    name = next((frame for frame in stack[0] if frame.startswith("thread (")), "thread (): unnamed")
    name = re.sub(r"^thread \([^)]*\)(: )?", "", name) or "unnamed (native)"
    return re.sub(r"[-_ ]*\d+$", "", name)


def module_of(frame: str) -> str:
    """`score (bankllm/encoder.py:31)` → `bankllm/encoder.py`; a native frame keeps its library."""
    place = frame.rpartition("(")[2].rstrip(")")
    return re.sub(r":\d+$", "", place) or "unknown"


def function_of(frame: str) -> str:
    return re.sub(r":\d+\)$", ")", frame)


def shares(stacks: Sequence[Stack], what: str, top: int) -> Iterator[str]:
    """Lines of a table, largest first; `what` is thread, module or function."""
    counted: Counter[str] = Counter()
    for stack in stacks:
        name = {"thread": thread_of, "module": leaf_module, "function": leaf_function}[what](stack)
        counted[name] += stack[1]
    total = counted.total()
    yield f"by {what} ({total:,} samples)"
    for name, count in counted.most_common(top):
        yield f"  {count / total:6.1%}  {name}"


def leaf_module(stack: Stack) -> str:
    return f"{thread_of(stack)}: {module_of(stack[0][-1])}"


def leaf_function(stack: Stack) -> str:
    return f"{thread_of(stack)}: {function_of(stack[0][-1])}"


def run(options: argparse.Namespace) -> None:
    wrk.require()
    texts = datasets.load(options.dataset).test.texts
    calls = servers.chats(random_queries(texts, seed=0), servers.CUSTOMERS[: options.customers])
    mine = servers.ours(options)
    with (
        TemporaryDirectory(prefix="bankllm-profile-") as folder,
        servers.start(mine, Path(folder)) as server,
        ThreadPoolExecutor(1, "load") as pool,
    ):
        url, connections = server.url + mine.path, options.connections
        wrk.drive(calls, url, Path(folder), seconds=WARM_UP_S, connections=connections)
        load = pool.submit(
            wrk.drive, calls, url, Path(folder), seconds=options.seconds + WARM_UP_S, connections=connections
        )
        stacks = record(server.pid, Path(folder) / "stacks.txt", options.seconds, options.native)
        window = load.result()
    if not stacks:
        raise ServerError(f"py-spy saw no thread run in {options.seconds} s. Sample for longer (--seconds).")
    print(f"{window.per_second:.1f} chats/s while sampled, errors {window.errors or 0}")
    for what in ("thread", "module", "function"):
        print("\n".join(shares(stacks, what, options.top)))


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
