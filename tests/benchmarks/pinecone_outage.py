"""Pinecone goes away while customers write, and comes back: what is lost, doubled or out of order, and what it costs.

python tests/benchmarks/pinecone_outage.py [--seconds 60] [--kill] [--layout shared] [--folder on/the/disk]

The real SDK, against tests/pinecone_server.py, whose port is closed for so long. A process writes one row after the
other (every tenth an older row anew, every fifteenth removed) while a thread searches. With --kill it gets SIGKILL in
the middle of the outage and is started anew.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pinecone_server import API_KEY, PineconeServer

from bankllm.vectors.pinecone.outbox import OutboxStore
from bankllm.vectors.pinecone.replicated import ReplicatedStore
from bankllm.vectors.pinecone.store import PineconeStore
from bankllm.vectors.rows import Row

DIM, EMBEDDER = 8, "benchmark@0"
CUSTOMERS = 5
PAUSE_S = 0.01
"""Between two turns of the writer."""


@dataclass
class Outcome:
    """What the outage did."""

    acknowledged: int = 0
    """Writes and removals that returned."""
    during: int = 0
    """Those of them that returned while Pinecone was away."""
    lost: int = 0
    """Acknowledged changes that the file or Pinecone does not have in the end."""
    doubled: int = 0
    """Records in Pinecone beyond the file's rows."""
    disordered: int = 0
    """Rows that reached Pinecone before one of the same customer that was written earlier."""
    drain_s: float = 0.0
    """From Pinecone's return until it was told everything."""
    write_ms: list[float] = field(default_factory=list)
    search_ms: list[float] = field(default_factory=list)
    """Of each turn during the outage."""


def deed(number: int) -> tuple[str, str, str]:
    """What the writer's turn does: kind, customer, id."""
    kind, row = "upsert", number
    if number % 15 == 14:
        kind, row = "delete", number - 3 * CUSTOMERS
    elif number % 10 == 9:
        row = number - 2 * CUSTOMERS
    row = max(row, 0)
    return kind, f"CUST{row % CUSTOMERS}", f"m{row}"


def write(path: Path, url: str, layout: Any, first: int) -> None:
    """The writer's process: one JSON line a turn or search; once a line comes on stdin it drains and ends."""
    over = Event()

    def connect() -> PineconeStore:
        return PineconeStore(API_KEY, "outage", DIM, EMBEDDER, layout=layout, host=url)

    def search() -> None:
        while not over.is_set():
            began = time.perf_counter()
            store.search("CUST0", np.ones(DIM), 5)
            tell({"search_ms": 1000 * (time.perf_counter() - began), "at": time.time()})
            time.sleep(PAUSE_S)

    Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
    store = ReplicatedStore(OutboxStore(path, DIM, EMBEDDER, target=layout), connect, layout)
    searching = Thread(target=search)
    searching.start()
    number = first
    while not over.is_set():
        kind, customer, id_ = deed(number)
        vector = np.random.default_rng(number).normal(size=DIM)
        began = time.perf_counter()
        if kind == "upsert":
            store.upsert(customer, [Row(id_, f"text {number}", vector)])
        else:
            store.delete(customer, [id_])
        tell([number, kind, customer, id_, 1000 * (time.perf_counter() - began), time.time()])
        number += 1
        time.sleep(PAUSE_S)
    searching.join()
    store.drain(120)
    tell(time.time())
    store.close()


def tell(what: object) -> None:
    """One line in one piece, whichever thread and however the process ends."""
    os.write(1, (json.dumps(what) + "\n").encode())


def start(path: Path, url: str, layout: str, first: int, told: Path) -> subprocess.Popen[str]:
    """The writer, whose lines go to a file: a pipe that nobody reads would soon hold it up."""
    with told.open("ab") as lines:
        return subprocess.Popen(
            [sys.executable, __file__, "--write", str(path), url, layout, str(first)],
            stdin=subprocess.PIPE,
            stdout=lines,
            text=True,
        )


def read(told: Path) -> list[Any]:
    """What the writer has told so far."""
    return [json.loads(line) for line in told.read_text().splitlines()]


def measure(folder: Path, seconds: float, kill: bool, layout: Any = "customer") -> Outcome:
    """Run it all and compare what was acknowledged with what the file and Pinecone hold in the end."""
    path, told, killed_in = folder / "memory.sqlite", folder / "told.jsonl", None
    with PineconeServer() as server:
        writer = start(path, server.url, layout, 0, told)
        while len(read(told)) < 50:
            if writer.poll() is not None:
                sys.exit("Expected the writer to start; its error stands above.")
            time.sleep(0.05)
        away = time.time()
        server.stop()
        if kill:
            time.sleep(seconds / 2)
            writer.kill()
            writer.wait()
            killed_in = 1 + max(turn[0] for turn in read(told) if isinstance(turn, list))
            writer = start(path, server.url, layout, killed_in + 1, told)
            time.sleep(seconds / 2)
        else:
            time.sleep(seconds)
        server.start()
        back = time.time()
        writer.communicate("over\n")
        if writer.returncode:
            sys.exit(f"Expected the writer to end well, got {writer.returncode}; its error stands above.")
        lines = read(told)
        drained = next(line for line in lines if isinstance(line, float))
        return judge(lines, killed_in, server, path, layout, away, back, drained)


def judge(
    told: list[Any],
    killed_in: int | None,
    server: PineconeServer,
    path: Path,
    layout: Any,
    away: float,
    back: float,
    drained: float,
) -> Outcome:
    """What became of the turns that were acknowledged; of the one that was killed nobody knows."""
    turns = [line for line in told if isinstance(line, list)]
    during = [turn for turn in turns if away <= turn[5] <= back]
    outcome = Outcome(len(turns), len(during), drain_s=drained - back)
    outcome.write_ms = [turn[4] for turn in during]
    searches = [line for line in told if isinstance(line, dict)]
    outcome.search_ms = [line["search_ms"] for line in searches if away <= line["at"] <= back]
    model: dict[tuple[str, str], str | None] = {}
    first: dict[str, int] = {}
    for number, kind, customer, id_, *_ in turns:
        if killed_in is not None and number > killed_in:
            model.pop(deed(killed_in)[1:], None)
            killed_in = None  # what a later turn did to the same row is known
        model[customer, id_] = f"text {number}" if kind == "upsert" else None
        first.setdefault(id_, number)
    if killed_in is not None:  # no turn followed
        model.pop(deed(killed_in)[1:], None)
    with closing(OutboxStore(path, DIM, EMBEDDER, target=layout)) as local:
        names = [f"CUST{n}" for n in range(CUSTOMERS)]
        here = {(name, row.id): row.text for name in names for row in local.export(name)}
    there = {
        (record["metadata"]["customer_id"], record["id"].split("/")[-1]): record["metadata"]["text"]
        for records in server.namespaces.values()
        for record in records.values()
    }
    outcome.lost = sum(here.get(key) != text or there.get(key) != text for key, text in model.items())
    outcome.doubled = sum(map(len, server.namespaces.values())) - len(here) + len(here.items() - there.items())
    seen: dict[str, int] = {}
    arrived: set[str] = set()
    for namespace, id_ in server.written:
        number = first.get(id_.split("/")[-1])
        if id_ not in arrived and number is not None:  # an older row anew says nothing
            outcome.disordered += number < seen.get(namespace, -1)
            seen[namespace] = max(number, seen.get(namespace, -1))
        arrived.add(id_)
    return outcome


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--kill", action="store_true")
    options.add_argument("--layout", choices=["customer", "shared"], default="customer")
    options.add_argument("--folder", help="where the file goes; default: the system's temporary folder")
    options.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.write:
        path, url, layout, first = chosen.write
        write(Path(path), url, layout, int(first))
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        outcome = measure(Path(folder), chosen.seconds, chosen.kill, chosen.layout)
    print(f"acknowledged {outcome.acknowledged}, {outcome.during} of them while Pinecone was away")
    print(f"lost {outcome.lost}   doubled {outcome.doubled}   out of order {outcome.disordered}")
    for name, times in (("write", outcome.write_ms), ("search", outcome.search_ms)):
        print(f"{name:<7} during the outage: p50 {np.median(times):8.2f} ms   worst {max(times):8.2f} ms")
    print(f"drained {outcome.drain_s:.2f} s after Pinecone came back")
    sys.exit(bool(outcome.lost or outcome.doubled or outcome.disordered))


if __name__ == "__main__":
    main()
