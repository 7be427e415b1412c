"""Hold graded conversations with a real server, each from a fresh copy of the ledger.

    with desk(Path("scratch")) as server:
        outcome = server.hold(load()[0])

The server checks tokens, so that the dialogues in which another customer presses a button meet the rules of production.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt

from bankllm.assistant.bank.ledger import open_bank
from bankllm.errors import ServerError
from bankllm.lab.conversation_bank import (
    TODAY,
    Dialogue,
    DialogueTurn,
    TurnAnswer,
    faults,
    final_faults,
    reading,
    reset,
)
from bankllm.loadtest.server_process import ServerProcess
from bankllm.model.generation import PACKAGED
from bankllm.settings import get_settings

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
class Outcome:
    failures: list[Failure]
    turns: list[tuple[str, str]]
    """What the customer said or did, and the reply."""


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

    def hold(self, dialogue: Dialogue) -> Outcome:
        """Hold a dialogue from a fresh copy of the ledger. It passes if nothing failed."""
        self.number += 1
        named = {dialogue.customer, *(turn.as_ for turn in dialogue.turns if turn.as_)}
        names = {name: f"{name}-{self.number}" for name in named}
        reset(self.ledger, self.fresh, self.start, names)
        talk, outcome = Talk(self, names, names[dialogue.customer]), Outcome([], [])
        with talk.client:
            for number, turn in enumerate(dialogue.turns, 1):
                answer = talk.take(turn)
                outcome.turns.append((said(turn), answer.text))
                with reading(self.ledger, self.start, talk.customer) as db:
                    wrong = faults(turn.expect, answer, db)
                if wrong:
                    outcome.failures.append(Failure(number, said(turn), wrong, got(answer)))
        with reading(self.ledger, self.start, talk.customer) as db:
            if wrong := final_faults(dialogue.final, db):
                outcome.failures.append(Failure(0, "(the final ledger)", wrong))
        return outcome


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

    def take(self, turn: DialogueTurn) -> TurnAnswer:
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
            return TurnAnswer(status=response.status_code, text=response.text)
        reply = response.json()
        self.conversation = reply["conversation_id"]
        proposal = reply.get("pending_action")
        known = {one["action_id"] for one in self.proposals}
        is_new = proposal is not None and proposal["action_id"] not in known
        if proposal is not None and is_new:
            self.proposals.append(proposal)
        return TurnAnswer(
            status=200,
            text=reply["reply"],
            calls=[dict(call) for call in reply.get("calls", [])],
            asks=bool(reply.get("question")) or "?" in reply["reply"],
            proposal=proposal,
            is_new=is_new,
        )

    def _press(self, turn: DialogueTurn) -> TurnAnswer:
        """The button, as often as the turn says, at the same time; the answer with the worst status."""
        if len(self.proposals) < max(1, turn.proposal):
            return TurnAnswer(status=0, text="There is no proposal with a button.")
        proposal = self.proposals[turn.proposal - 1]
        path = f"/api/v1/customers/{self.customer}/actions/{proposal['action_id']}/{turn.press}"
        body = {"digest": turn.digest or proposal["digest"]}
        presser = self.names[turn.as_] if turn.as_ else self.customer
        with ThreadPoolExecutor(turn.times) as pool:
            responses = list(pool.map(lambda _: self._post(path, body, presser), range(turn.times)))
        worst = max(responses, key=lambda response: response.status_code)
        return TurnAnswer(status=worst.status_code, text=worst.text if worst.status_code >= 400 else "")

    def _complete(self, messages: Sequence[Mapping[str, str]]) -> TurnAnswer:
        """A history that the client has made up."""
        body = {"model": "bankllm", "messages": messages, "user": self.customer}
        response = self._post("/v1/chat/completions", body)
        if response.status_code != 200:
            return TurnAnswer(status=response.status_code, text=response.text)
        return TurnAnswer(status=200, text=response.json()["choices"][0]["message"]["content"])

    def _post(self, path: str, body: Mapping[str, Any], customer: str = "") -> httpx.Response:
        claims = {"sub": customer or self.customer, "aud": AUDIENCE, "scope": "actions", "exp": time.time() + 600}
        return self.client.post(path, json=body, headers={"Authorization": f"Bearer {jwt.encode(claims, KEY)}"})


@contextmanager
def desk(folder: Path, engine: str = "auto", responder: str = "template", adapter: Path = PACKAGED) -> Iterator[Desk]:
    """A server in a process of its own, with its files in `folder` and no deadline for its language model.

    `engine`: who understands, as in `BANKLLM_UNDERSTANDING`: `auto`, `model` or `rules`.
    """
    ledger, fresh = folder / "ledger.sqlite", folder / "fresh.sqlite"
    open_bank(f"demo:{ledger}", get_settings().model_copy(update={"today": TODAY})).close()
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
        held = Desk(server.url, ledger, fresh, folder / "start.sqlite")
        if engine == "model":
            _wait_for_model(held)
        yield held


def _wait_for_model(desk: Desk) -> None:
    """Ask until the model answers: it may load for longer than the server waits. Raises `ServerError`."""
    talk, end = Talk(desk, {}, "CUST001"), time.monotonic() + WAIT_S
    body = {"message": "my balance, and what I spent on coffee in October", "customer_id": talk.customer}
    with talk.client:
        while talk._post("/api/v1/chat", body).json()["understood_by"] == "rules":
            if time.monotonic() > end:
                raise ServerError(f"Expected the language model to answer within {WAIT_S} s; it did not. See the log.")
            time.sleep(1)


def said(turn: DialogueTurn) -> str:
    if turn.press:
        return f"[{turn.press}{f' by {turn.as_}' if turn.as_ else ''}]"
    return turn.say if turn.say is not None else str(turn.messages)


def got(answer: TurnAnswer) -> str:
    calls = [f"{call['tool']}({', '.join(f'{k}={v}' for k, v in call['arguments'].items())})" for call in answer.calls]
    proposed = f" | proposes {answer.proposal['tool']} {answer.proposal['arguments']}" if answer.proposal else ""
    return f"{answer.text!r} | {', '.join(calls) or 'no calls'}{proposed}"
