"""Outage of Pinecone during writes: rows that are lost, duplicated or out of order, and the time to recover.

python benchmarks/pinecone_outage.py [--seconds 60] [--kill]

Uses the real SDK with tests/support/pinecone_server.py, whose port is closed during the outage. Two processes with one
file write one row after the other (every tenth operation rewrites an older row, every fifteenth deletes one). With
--kill, one of them gets SIGKILL in the middle of the outage and is started again. At the end, a search by words must
find exactly the rows of the file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bankllm.vectors.pinecone.index import PineconeIndex
from bankllm.vectors.pinecone.outbox import OutboxStore
from bankllm.vectors.pinecone.replicated import ReplicatedStore
from bankllm.vectors.rows import Query, Row
from tests.support.pinecone_server import API_KEY, PineconeServer

DIM, EMBEDDER = 8, "benchmark@0"
CUSTOMERS = 5
WRITERS = "ab"
PAUSE_S = 0.01
"""Pause between two operations of the writer."""


@dataclass
class Outcome:
    acknowledged: int = 0
    """Writes and deletes that returned."""
    during: int = 0
    """Acknowledged operations during the outage."""
    lost: int = 0
    """Acknowledged changes that are missing from the file or from Pinecone at the end."""
    unfound: int = 0
    """Rows of the file that a search by words does not find, or the reverse."""
    doubled: int = 0
    """Records in Pinecone without a row in the file."""
    disordered: int = 0
    """Rows that reached Pinecone before an earlier row of the same customer."""
    drain_s: float = 0.0
    """Seconds from the end of the outage until Pinecone had all changes."""


def operation(writer: str, number: int) -> tuple[str, str, str]:
    """Return kind, customer and row id of a writer's operation with this number."""
    kind, row = "upsert", number
    if number % 15 == 14:
        kind, row = "delete", number - 3 * CUSTOMERS
    elif number % 10 == 9:
        row = number - 2 * CUSTOMERS
    row = max(row, 0)
    return kind, f"CUST{writer}{row % CUSTOMERS}", f"{writer}{row}"


def write(path: Path, url: str, writer: str, first: int) -> None:
    """Run a writer process: one JSON line per operation. A line on stdin makes it drain and exit."""
    stop = Event()

    def connect() -> PineconeIndex:
        return PineconeIndex(API_KEY, "outage", DIM, EMBEDDER, host=url)

    Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    store = ReplicatedStore(path, DIM, EMBEDDER, connect, target="outage")
    number = first
    while not stop.is_set():
        kind, customer, id_ = operation(writer, number)
        vector = np.random.default_rng(number).normal(size=DIM)
        if kind == "upsert":
            store.upsert(customer, [Row(id_, f"text {number}", vector)])
        else:
            store.delete(customer, [id_])
        write_line([number, kind, customer, id_, time.time()])
        number += 1
        time.sleep(PAUSE_S)
    while store.backlog().depth:
        time.sleep(0.02)
    write_line(time.time())
    store.close()


def write_line(what: object) -> None:
    """Write one JSON line to stdout atomically, even if the process is killed afterwards."""
    os.write(1, (json.dumps(what) + "\n").encode())


def start(path: Path, url: str, writer: str, first: int, log: Path) -> subprocess.Popen[str]:
    """Start a writer with its output in a file, because a full pipe would block it."""
    with log.open("ab") as lines:
        return subprocess.Popen(
            [sys.executable, __file__, "--write", str(path), url, writer, str(first)],
            stdin=subprocess.PIPE,
            stdout=lines,
            text=True,
        )


def read(log: Path) -> list[Any]:
    """Return the lines that the writer has written so far."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def measure(folder: Path, seconds: float, kill: bool) -> Outcome:
    """Run the outage, and compare the acknowledged changes with the file and Pinecone at the end."""
    path, killed_turn = folder / "memory.sqlite", None
    logs = {writer: folder / f"{writer}.jsonl" for writer in WRITERS}
    with PineconeServer() as server:
        running = {writer: start(path, server.url, writer, 0, log) for writer, log in logs.items()}
        while min(len(read(log)) for log in logs.values()) < 50:
            if any(process.poll() is not None for process in running.values()):
                sys.exit("A writer exited before its first 50 operations. See its error above.")
            time.sleep(0.05)
        outage_began = time.time()
        server.stop()
        if kill:
            time.sleep(seconds / 2)
            running["a"].kill()
            running["a"].wait()
            killed_turn = 1 + max(turn[0] for turn in read(logs["a"]) if isinstance(turn, list))
            running["a"] = start(path, server.url, "a", killed_turn + 1, logs["a"])
            time.sleep(seconds / 2)
        else:
            time.sleep(seconds)
        server.start()
        outage_ended = time.time()
        for process in running.values():
            process.stdin.write("over\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        for process in running.values():
            if process.wait():
                sys.exit(f"A writer exited with code {process.returncode}, expected 0. See its error above.")
    lines = [line for log in logs.values() for line in read(log)]
    turns = [line for line in lines if isinstance(line, list)]
    during = [turn for turn in turns if outage_began <= turn[4] <= outage_ended]
    drained = max(line for line in lines if isinstance(line, float))
    outcome = Outcome(len(turns), len(during), drain_s=drained - outage_ended)
    local_rows = {}
    with closing(OutboxStore(path, DIM, EMBEDDER, target="outage")) as local:
        for name in (f"CUST{writer}{n}" for writer in WRITERS for n in range(CUSTOMERS)):
            stored = {row.id: row.text for row in local.export(name)}
            words = Query(name, np.ones(DIM), ["text"], "lexical")
            outcome.unfound += len(stored.keys() ^ {match.id for match in local.search_many([words], 10**6)[0]})
            local_rows |= {(name, id_): text for id_, text in stored.items()}
    judge(outcome, turns, killed_turn, server, local_rows)
    return outcome


def judge(
    outcome: Outcome,
    turns: list[Any],
    killed_turn: int | None,
    server: PineconeServer,
    local_rows: dict[tuple[str, str], str],
) -> None:
    """Count lost, doubled and disordered rows. The operation during the kill may be done or not."""
    model: dict[tuple[str, str], str | None] = {}
    first: dict[str, int] = {}
    for number, kind, customer, id_, *_ in turns:
        if killed_turn is not None and id_.startswith("a") and number > killed_turn:
            model.pop(operation("a", killed_turn)[1:], None)
            killed_turn = None  # a later operation on the same row is known
        model[customer, id_] = f"text {number}" if kind == "upsert" else None
        first.setdefault(id_, number)
    if killed_turn is not None:  # no operation followed
        model.pop(operation("a", killed_turn)[1:], None)
    remote_rows = {
        (record["metadata"]["customer_id"], record["id"].split("/")[-1]): record["metadata"]["text"]
        for records in server.namespaces.values()
        for record in records.values()
    }
    outcome.lost = sum(local_rows.get(key) != text or remote_rows.get(key) != text for key, text in model.items())
    outcome.doubled = (
        sum(map(len, server.namespaces.values())) - len(local_rows) + len(local_rows.items() - remote_rows.items())
    )
    seen: dict[tuple[str, str], int] = {}
    arrived: set[str] = set()
    for namespace, id_ in server.written:
        number, place = first.get(id_.split("/")[-1]), (namespace, id_.split("/")[-1][0])
        if id_ not in arrived and number is not None:  # a rewritten row says nothing about the order
            outcome.disordered += number < seen.get(place, -1)
            seen[place] = max(number, seen.get(place, -1))
        arrived.add(id_)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--kill", action="store_true")
    options.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.write:
        path, url, writer, first = chosen.write
        write(Path(path), url, writer, int(first))
        return
    with tempfile.TemporaryDirectory() as folder:
        outcome = measure(Path(folder), chosen.seconds, chosen.kill)
    print(f"acknowledged {outcome.acknowledged}, {outcome.during} of them during the outage")
    print(f"lost {outcome.lost}   duplicated {outcome.doubled}   out of order {outcome.disordered}", end="   ")
    print(f"not found by words {outcome.unfound}")
    print(f"drained {outcome.drain_s:.2f} s after the end of the outage")
    sys.exit(bool(outcome.lost or outcome.doubled or outcome.disordered or outcome.unfound))


if __name__ == "__main__":
    main()
