"""Hold the conversations of `tests/conversations` with a real server, and grade them: pass^1 and pass^4.

    python benchmarks/conversations.py --engine rules --runs 4
    python benchmarks/conversations.py --engine model --runs 4 --rows conversations.csv
    python benchmarks/conversations.py --only two-toms card-lost

A dialogue passes if all of its turns and the final ledger are as expected. pass^1 is the share of dialogues that pass,
over all runs; pass^k the share that pass in each of k runs. Every failed turn is printed: what was said, expected, got.
Each dialogue begins with a fresh copy of the ledger. The server checks tokens, so that the dialogues in which another
customer presses a button meet the rules of production.
"""

import argparse
import os
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt

from bankllm.assistant.bank.ledger import open_bank
from bankllm.evidence.records import write_rows
from bankllm.evidence.statistics.statistic import wilson
from bankllm.loadtest.server_process import ServerProcess
from bankllm.model.generation import PACKAGED
from bankllm.settings import Settings
from benchmarks.conversation_bank import TODAY, Answer, Dialogue, Turn, faults, final_faults, load, reading, reset

KEY, AUDIENCE = "a key of the conversations, 32 bytes or more", "conversations"
WAIT_S = 120
"""For one answer."""
NO_DEADLINE_S = 600


@dataclass
class Failure:
    turn: int
    """From 1; 0: the final ledger."""
    said: str
    faults: list[str]
    got: str = ""


@dataclass
class Desk:
    """A server, its ledger, and the ledger's fresh copy."""

    url: str
    ledger: Path
    fresh: Path
    start: Path
    """The ledger as the current dialogue found it."""
    number: int = 0
    """Of dialogues held so far."""

    def hold(self, dialogue: Dialogue) -> list[Failure]:
        """Hold a dialogue from a fresh copy of the ledger, and return what failed."""
        self.number += 1
        named = {dialogue.customer, *(turn.as_ for turn in dialogue.turns if turn.as_)}
        names = {name: f"{name}-{self.number}" for name in named}
        reset(self.ledger, self.fresh, self.start, names)
        talk, failures = Talk(self, names, names[dialogue.customer]), []
        with talk.client:
            for number, turn in enumerate(dialogue.turns, 1):
                answer = talk.take(turn)
                with reading(self.ledger, self.start, talk.customer) as db:
                    wrong = faults(turn.expect, answer, db)
                if wrong:
                    failures.append(Failure(number, said(turn), wrong, got(answer)))
        with reading(self.ledger, self.start, talk.customer) as db:
            if wrong := final_faults(dialogue.final, db):
                failures.append(Failure(0, "(the final ledger)", wrong))
        return failures


@dataclass
class Talk:
    """One conversation of one customer."""

    desk: Desk
    names: Mapping[str, str]
    customer: str
    conversation: str | None = None
    proposals: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.desk.url, timeout=WAIT_S, trust_env=False)

    def take(self, turn: Turn) -> Answer:
        if turn.wait_minutes:
            with closing(sqlite3.connect(self.desk.ledger)) as db, db:
                older = "UPDATE actions SET proposed_at = proposed_at - ? WHERE state = 'proposed'"
                db.execute(older, (60 * turn.wait_minutes,))
        if turn.new_conversation:
            self.conversation = None
        if turn.press:
            return self._press(turn)
        if turn.messages:
            return self._complete(turn.messages)
        body = {"message": turn.say, "customer_id": self.customer}
        if self.conversation:
            body["conversation_id"] = self.conversation
        response = self._post("/api/v1/chat", body)
        if response.status_code != 200:
            return Answer(status=response.status_code, text=response.text)
        reply = response.json()
        self.conversation = reply["conversation_id"]
        proposal = reply.get("pending_action")
        known = {one["action_id"] for one in self.proposals}
        is_new = proposal is not None and proposal["action_id"] not in known
        if proposal is not None and is_new:
            self.proposals.append(proposal)
        return Answer(
            status=200,
            text=reply["reply"],
            calls=[dict(call) for call in reply.get("calls", [])],
            asks=bool(reply.get("question")) or "?" in reply["reply"],
            proposal=proposal,
            is_new=is_new,
        )

    def _press(self, turn: Turn) -> Answer:
        """The button, as often as the turn says, at the same time; the answer with the worst status."""
        if len(self.proposals) < max(1, turn.proposal):
            return Answer(status=0, text="There is no proposal with a button.")
        proposal = self.proposals[turn.proposal - 1]
        path = f"/api/v1/customers/{self.customer}/actions/{proposal['action_id']}/{turn.press}"
        body = {"digest": turn.digest or proposal["digest"]}
        presser = self.names[turn.as_] if turn.as_ else self.customer
        with ThreadPoolExecutor(turn.times) as pool:
            responses = list(pool.map(lambda _: self._post(path, body, presser), range(turn.times)))
        worst = max(responses, key=lambda response: response.status_code)
        return Answer(status=worst.status_code, text=worst.text if worst.status_code >= 400 else "")

    def _complete(self, messages: Sequence[Mapping[str, str]]) -> Answer:
        """A history that the client has made up."""
        body = {"model": "bankllm", "messages": messages, "user": self.customer}
        response = self._post("/v1/chat/completions", body)
        if response.status_code != 200:
            return Answer(status=response.status_code, text=response.text)
        return Answer(status=200, text=response.json()["choices"][0]["message"]["content"])

    def _post(self, path: str, body: Mapping[str, Any], customer: str = "") -> httpx.Response:
        claims = {"sub": customer or self.customer, "aud": AUDIENCE, "scope": "actions", "exp": time.time() + 600}
        return self.client.post(path, json=body, headers={"Authorization": f"Bearer {jwt.encode(claims, KEY)}"})


@contextmanager
def desk(folder: Path, engine: str, responder: str = "template", adapter: Path = PACKAGED) -> Iterator[Desk]:
    """A server in a process of its own, with its files in `folder`."""
    ledger, fresh = folder / "ledger.sqlite", folder / "fresh.sqlite"
    open_bank(f"demo:{ledger}", Settings(today=TODAY)).close()
    others = {name: "" for name in os.environ if name.startswith(("BANKLLM_", "OPENAI_", "PINECONE_"))}
    env = {
        "ENVIRONMENT": "development",
        "BANKLLM_AUDIT_KEY": KEY,
        "BANKLLM_JWT_AUDIENCE": AUDIENCE,
        "BANKLLM_JWT_SECRET": KEY,
        "BANKLLM_LANGUAGE_ADAPTER": str(adapter.resolve()),
        "BANKLLM_LEDGER": f"sqlite:{ledger}",
        "BANKLLM_OFFLINE": "1",
        "BANKLLM_RATE_LIMIT": "off",
        "BANKLLM_RESPONDER": responder,
        "BANKLLM_TODAY": TODAY.isoformat(),
        "BANKLLM_UNDERSTANDING": engine,
        "BANKLLM_REPLY_TIMEOUT_S": str(NO_DEADLINE_S),
        "BANKLLM_RESPONDER_TIMEOUT_S": str(NO_DEADLINE_S),
    }
    server = ServerProcess(store=folder / "memory.sqlite", log=folder / "server.log", env=others | env)
    with server:
        # The server has added its tables.
        with closing(sqlite3.connect(ledger)) as source, closing(sqlite3.connect(fresh)) as target:
            source.backup(target)
        yield Desk(server.url, ledger, fresh, folder / "start.sqlite")


def said(turn: Turn) -> str:
    if turn.press:
        return f"[{turn.press}{f' by {turn.as_}' if turn.as_ else ''}]"
    return turn.say if turn.say is not None else str(turn.messages)


def got(answer: Answer) -> str:
    calls = [f"{call['tool']}({', '.join(f'{k}={v}' for k, v in call['arguments'].items())})" for call in answer.calls]
    proposed = f" | proposes {answer.proposal['tool']} {answer.proposal['arguments']}" if answer.proposal else ""
    return f"{answer.text!r} | {', '.join(calls) or 'no calls'}{proposed}"


def show(dialogue: Dialogue, failures: Sequence[Failure]) -> None:
    print(f"\n{dialogue.theme}/{dialogue.id} ({dialogue.customer})")
    for failure in failures:
        print(f"  {failure.turn or 'end'}: {failure.said}")
        for fault in failure.faults:
            print(f"     {fault}")
        if failure.got:
            print(f"     got {failure.got}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=("rules", "model"), default="rules")
    parser.add_argument("--responder", default="template")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="dialogues whose id contains one of these")
    parser.add_argument("--every", type=int, default=1, help="only every n-th dialogue")
    parser.add_argument("--adapter", type=Path, default=PACKAGED, help="of the language model")
    parser.add_argument("--rows", type=Path, help="CSV file for one row per dialogue and run")
    parser.add_argument("--passing", type=Path, help="file for the ids that pass in all runs")
    given = parser.parse_args()
    chosen = [one for one in load() if not given.only or any(part in one.id for part in given.only)]
    chosen = chosen[:: given.every]
    passes: dict[str, list[bool]] = {dialogue.id: [] for dialogue in chosen}
    rows: list[dict[str, object]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, desk(Path(name), given.engine, given.responder, given.adapter) as held:
        for run in range(1, given.runs + 1):
            for dialogue in chosen:
                failures = held.hold(dialogue)
                passes[dialogue.id].append(not failures)
                rows.append(_row(dialogue, given.engine, run, not failures))
                if failures and all(passes[dialogue.id][:-1]):
                    show(dialogue, failures)
    rows += [_row(dialogue, given.engine, "all", all(passes[dialogue.id])) for dialogue in chosen]
    report(chosen, passes, given, time.monotonic() - began)
    if given.rows:
        write_rows(given.rows, rows)
    if given.passing:
        given.passing.write_text("".join(f"{one.id}\n" for one in chosen if all(passes[one.id])), encoding="utf-8")


def report(
    chosen: Sequence[Dialogue], passes: Mapping[str, list[bool]], given: argparse.Namespace, seconds: float
) -> None:
    every = Counter(one.theme for one in chosen)
    passed = Counter(one.theme for one in chosen if all(passes[one.id]))
    print(f"\n{'theme':20} passed in all of {given.runs} runs")
    for theme, count in every.items():
        print(f"{theme:20} {passed[theme]:3} of {count}")
    outcomes = [outcome for results in passes.values() for outcome in results]
    for k, hits, n in ((1, sum(outcomes), len(outcomes)), (given.runs, passed.total(), len(chosen))):
        estimate = wilson(hits, n)
        low, high = estimate.ci95 or (0.0, 1.0)
        print(f"pass^{k} {hits / n:.1%} ({hits} of {n}; 95 % interval {low:.1%} to {high:.1%})")
    print(
        f"{given.engine}, {given.responder}; {seconds:.0f} s on {os.cpu_count()} cores, Python {sys.version.split()[0]}"
    )


def _row(dialogue: Dialogue, engine: str, run: int | str, passed: bool) -> dict[str, object]:
    """`run` is a number, or `all` for the row that says whether the dialogue passed in every run."""
    outcome = "yes" if passed else "no"
    return {"dialogue": dialogue.id, "theme": dialogue.theme, "engine": engine, "run": run, "passed": outcome}


if __name__ == "__main__":
    main()
