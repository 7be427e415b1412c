"""Graded conversations: the dialogues of `tests/conversations/*.yaml`, and how a reply and the ledger are graded.

A dialogue has an `id`, a `customer` of the demo bank (generated up to `TODAY`), 2 to 8 `turns`, and the `final` state
of the ledger. A turn says something (`say`), presses the button of a proposal (`press`), or sends a whole history to
`/v1/chat/completions` (`messages`). `Expect` and `Final` describe what is graded. Amounts of the ledger are never
typed: they are SQL, computed on the ledger when the turn is graded.
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bankllm.assistant.bank.ledger import format_money
from bankllm.util.sampling import subset

PACKAGE = Path(__file__).parents[1]
FOLDER = next(filter(Path.is_dir, (PACKAGE / "conversations", PACKAGE.parent / "tests" / "conversations")))
"""Of a wheel, or of a checkout."""
TODAY = date(2026, 11, 16)
"""A Monday: `BANKLLM_TODAY` of the server, and the last day of the ledger."""
ACTING = {"cancel_transfer", "freeze_card", "replace_card", "report_card", "set_limit", "transfer", "unfreeze_card"}
"""Tools whose calls are graded by the proposal and the ledger, not by `calls`."""
TABLES = (
    *("customers", "accounts", "holders", "entries", "postings", "pending", "cards", "payees", "standing_orders"),
    "scheduled",
)
NEVER = r"Traceback|\bNone\b|\bnull\b|\{\""
"""What no reply contains."""
VIEWS = """
CREATE TEMP VIEW own AS SELECT account_id FROM holders WHERE customer_id = (SELECT customer_id FROM me);
CREATE TEMP VIEW mine AS SELECT * FROM transactions WHERE account_id IN own AND kind <> 'opening';
CREATE TEMP VIEW spent AS SELECT *, -amount_minor AS minor FROM mine
    WHERE (amount_minor < 0 OR kind = 'refund') AND kind <> 'own_transfer';
CREATE TEMP VIEW received AS SELECT * FROM mine
    WHERE amount_minor > 0 AND kind NOT IN ('refund', 'own_transfer');
CREATE TEMP VIEW all_accounts AS SELECT *,
    (SELECT COALESCE(SUM(amount_minor), 0) FROM postings p WHERE p.account_id = a.account_id) AS balance_minor,
    (SELECT COALESCE(SUM(amount_minor), 0) FROM pending p WHERE p.account_id = a.account_id) AS pending_minor
    FROM accounts a;
CREATE TEMP VIEW my_accounts AS SELECT *, balance_minor + pending_minor + overdraft_minor AS available_minor
    FROM all_accounts WHERE account_id IN own;
CREATE TEMP VIEW my_cards AS SELECT cards.* FROM cards JOIN me USING (customer_id);
CREATE TEMP VIEW my_payees AS SELECT payees.* FROM payees JOIN me USING (customer_id);
CREATE TEMP VIEW my_orders AS SELECT * FROM standing_orders WHERE account_id IN own AND ended IS NULL;
CREATE TEMP VIEW my_scheduled AS SELECT scheduled.* FROM scheduled JOIN me USING (customer_id);
CREATE TEMP VIEW new AS SELECT account_id, p.booked, amount_minor, kind, counterparty, reference
    FROM postings p JOIN entries USING (entry_id) WHERE account_id IN own
    AND entry_id NOT IN (SELECT entry_id FROM fresh.entries);
"""
"""What the SQL of a dialogue may read besides the ledger's tables. `spent` and `received` leave out transfers between
own accounts; `spent` has refunds with a negative sign (`minor`); `new` are the customer's postings of the dialogue."""


def _iso(value: Any) -> Any:
    """YAML reads 2026-10-31 as a date; replies have ISO 8601."""
    if isinstance(value, Mapping):
        return {name: _iso(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_iso(one) for one in value]
    return value.isoformat() if isinstance(value, date) else value


class DialoguePart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expect(DialoguePart):
    calls: Annotated[list[dict[str, Any]] | None, BeforeValidator(_iso)] = None
    """Calls with `tool` and the arguments that are graded: a value, a list of accepted values, or null for an argument
    that must be absent. Further calls fail the turn, except of acting tools and `small_talk`, of `knowledge` where the
    list is empty, and of what `also` names. Without `calls`, any calls are accepted."""
    also: list[str] = []
    words: list[str] = []
    """Regular expressions, each of which is in the reply or its tables, in any case."""
    not_words: list[str] = []
    """Regular expressions, none of which is in the reply."""
    money: list[str] = []
    """SQL that gives minor units, and a currency if it is not GBP: the amount is in the reply. `:name` is the argument
    of a call."""
    figures: list[str] = []
    """The same; the amount may also be in a table."""
    not_money: list[str] = []
    """The same; the amount is neither in the reply nor in a table."""
    told: list[str] = []
    """SQL that gives a text or a date that is in the reply or in a table."""
    rows: str | None = None
    """SQL whose amounts are those of the table, in any order and without their signs."""
    asks: bool | None = None
    """Whether the reply asks the customer something, and proposes nothing."""
    pending: Annotated[dict[str, Any] | Literal["any"] | None, BeforeValidator(_iso)] = None
    """The proposal that waits after the turn: `tool`, and arguments as in `calls`; null: none; `any`: not graded.
    Without it, there is no new proposal."""
    status: int | list[int] = 200
    """The HTTP status, or the accepted ones."""


class DialogueTurn(DialoguePart):
    say: str | None = None
    press: Literal["confirm", "cancel"] | None = None
    messages: list[dict[str, str]] | None = None
    as_: Annotated[str | None, Field(alias="as")] = None
    """Another customer who presses, with an own token."""
    proposal: int = 0
    """Which proposal of the dialogue is pressed, from 1; 0: the last one."""
    digest: str | None = None
    """In place of the digest of the proposal."""
    times: int = 1
    """How often it is pressed, at the same time."""
    wait_minutes: int = 0
    """By how much the proposals have become older."""
    new_conversation: bool = False
    expect: Expect = Expect()

    @model_validator(mode="after")
    def _one_kind(self) -> "DialogueTurn":
        if sum(given is not None for given in (self.say, self.press, self.messages)) != 1:
            raise ValueError("a turn has one of say, press and messages")
        return self


class LedgerQuery(DialoguePart):
    query: str
    equals: Annotated[Any, BeforeValidator(_iso)]
    """A value, a list of values, or a list of rows."""


class Final(DialoguePart):
    changes: list[str] = []
    """The tables of the ledger that may differ from the fresh copy."""
    sql: list[LedgerQuery] = []


class Dialogue(DialoguePart):
    id: str
    customer: str
    turns: Annotated[list[DialogueTurn], Field(min_length=2, max_length=8)]
    final: Final = Final()
    theme: str = ""
    """The name of its file."""


def load(count: int | None = None) -> list[Dialogue]:
    """Return the dialogues, or `count` of them in equal distances, the same ones each time."""
    dialogues = [
        Dialogue(**row, theme=path.stem)
        for path in sorted(FOLDER.glob("*.yaml"))
        for row in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]
    return subset(dialogues, count)


class TurnAnswer(DialoguePart):
    """What came back for one turn."""

    status: int
    text: str = ""
    calls: list[dict[str, Any]] = []
    asks: bool = False
    proposal: dict[str, Any] | None = None
    is_new: bool = False
    """Whether the proposal was not there before the turn."""

    @cached_property
    def results(self) -> str:
        """The results of the calls, for searches."""
        return json.dumps([call.get("result") for call in self.calls], ensure_ascii=False)

    @cached_property
    def amounts(self) -> set[int]:
        found: list[int] = []
        json.loads(self.results, parse_int=lambda digits: found.append(abs(int(digits))))
        return set(found)


@contextmanager
def reading(live: Path, start: Path, customer: str) -> Iterator[sqlite3.Connection]:
    """The ledger with the `VIEWS` of a customer."""
    with closing(sqlite3.connect(f"{live.absolute().as_uri()}?mode=ro", uri=True)) as db:
        db.execute("ATTACH ? AS fresh", (str(start),))
        db.execute("CREATE TEMP TABLE me AS SELECT ? AS customer_id", (customer,))
        db.executescript(VIEWS)
        yield db


def faults(expect: Expect, answer: TurnAnswer, db: sqlite3.Connection) -> list[str]:
    """Return what is wrong with an answer, as sentences."""
    allowed = expect.status if isinstance(expect.status, list) else [expect.status]
    found = [f"expected HTTP {expect.status}, got {answer.status}"] if answer.status not in allowed else []
    both = f"{answer.text}\n{answer.results}"
    found += [f"expected /{word}/" for word in expect.words if not re.search(word, both, re.IGNORECASE)]
    never = [f"(?-i:{NEVER})"] if answer.status == 200 else []  # a problem document is JSON
    unwanted = [word for word in (*expect.not_words, *never) if re.search(word, answer.text, re.IGNORECASE)]
    found += [f"expected no /{word}/" for word in unwanted]
    used, call_faults = _match_calls(expect, answer.calls)
    found += call_faults + _pending_faults(expect, answer)
    for sql in (*expect.money, *expect.figures, *expect.not_money):
        amount, currency = [*(db.execute(sql, used).fetchone() or (0,)), "GBP"][:2]
        money = format_money(abs(amount or 0), currency)
        said = re.search(rf"(?<![\d,.]){re.escape(money)}(?![\d]|[.,]\d)", answer.text) is not None
        shown = said or (sql not in expect.money and abs(amount or 0) in answer.amounts)
        if shown == (sql in expect.not_money):
            found.append(f"expected {'no ' * shown}{money} ({sql})")
    for sql in expect.told:
        (value, *_) = db.execute(sql, used).fetchone() or (None,)
        if not any(form in both for form in _forms(str(value))):
            found.append(f"expected {value} ({sql})")
    if expect.rows:
        wanted = sorted(abs(row[0]) for row in db.execute(expect.rows, used))
        results = [call["result"] for call in answer.calls if call["tool"] == "transactions" and call.get("result")]
        got = sorted(abs(row["amount_minor"]) for result in results for row in result.get("rows", []))
        if got != wanted:
            found.append(f"expected a table with the amounts {wanted}, got {got}")
    if expect.asks is not None and expect.asks != (answer.asks and not answer.is_new):
        found.append("expected a question" if expect.asks else "expected no question")
    return found


def final_faults(final: Final, db: sqlite3.Connection) -> list[str]:
    """Return what is wrong with the ledger at the end of a dialogue."""
    found = []
    for table in TABLES:
        now, before = (set(db.execute(f"SELECT * FROM {schema}.{table}")) for schema in ("main", "fresh"))
        if now != before and table not in final.changes:
            found.append(f"expected the table {table} as it was, got {sorted(now - before, key=str)[:3]}")
    if rows := db.execute("SELECT * FROM unbalanced").fetchall():
        found.append(f"expected books that balance, got {rows[:3]}")
    for one in final.sql:
        wanted = one.equals if isinstance(one.equals, list) else [one.equals]
        got = [list(row) for row in db.execute(one.query)]
        if got != [row if isinstance(row, list) else [row] for row in wanted]:
            found.append(f"expected {one.equals} in the ledger, got {got} ({one.query})")
    return found


def reset(live: Path, fresh: Path, start: Path, names: Mapping[str, str]) -> None:
    """Make the ledgers at `live` and `start` a copy of the one at `fresh`, in which customers have new ids.

    With an id of its own for each dialogue, nothing that a server remembers of a customer comes from an earlier one.
    """
    with (
        closing(sqlite3.connect(fresh)) as source,
        closing(sqlite3.connect(start)) as copy,
        closing(sqlite3.connect(live)) as target,
    ):
        for db in (copy, target):
            db.execute("PRAGMA synchronous = OFF")
        source.backup(copy)
        renamed = [(new, old) for old, new in names.items()]
        for table in ("customers", "holders", "cards", "payees", "scheduled"):
            copy.executemany(f"UPDATE {table} SET customer_id = ? WHERE customer_id = ?", renamed)
        copy.commit()
        copy.backup(target)


def _match_calls(expect: Expect, calls: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of the expected calls for SQL, and the faults."""
    left, used, found = list(calls), dict.fromkeys(("date_from", "date_to"), ""), []
    for wanted in expect.calls or []:
        if call := next((one for one in left if _fits(wanted, one)), None):
            used |= {name: value for name, value in call["arguments"].items() if isinstance(value, str | int)}
            left.remove(call)
        else:
            found.append(f"expected the call {wanted}")
    extra = {*ACTING, "small_talk", *expect.also, *([] if expect.calls else ["knowledge"])}
    if expect.calls is not None:
        found += [f"expected no call of {call['tool']}" for call in left if call["tool"] not in extra]
    return used, found


def _fits(wanted: Mapping[str, Any], call: Mapping[str, Any]) -> bool:
    """Whether a call, or a proposal, has the wanted tool and arguments."""
    got = {**call["arguments"], "tool": call["tool"]}
    return all(got.get(name) in (value if isinstance(value, list) else [value]) for name, value in wanted.items())


def _pending_faults(expect: Expect, answer: TurnAnswer) -> list[str]:
    wanted, got = expect.pending, answer.proposal
    told = f"{got['tool']} {got['arguments']}" if got else "none"
    if isinstance(wanted, dict):
        return [] if got and _fits(wanted, got) else [f"expected the proposal {wanted}, got {told}"]
    unwanted = wanted is None and (answer.is_new or "pending" in expect.model_fields_set)
    return [f"expected no proposal, got {told}"] if got and unwanted else []


def _forms(value: str) -> list[str]:
    """The ways in which a reply may write a value: an ISO date also as 5 November or November 5."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return [value]
    day = date.fromisoformat(value)
    return [value, f"{day.day} {day:%B}", f"{day:%B} {day.day}", f"{day.day} {day:%b}", f"{day:%b} {day.day}"]
