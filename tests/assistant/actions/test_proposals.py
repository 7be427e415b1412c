"""Proposals are booked once, after the digest is confirmed by the same customer in time; else nothing changes."""

import re
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from bankllm.assistant.actions.plans import ActionRefused
from bankllm.assistant.actions.proposals import HOLD_S, ActionClosed, ActionDesk, UnknownAction
from bankllm.assistant.actions.stored import LIFETIME_S, Proposal
from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.assistant.bank.ledger import UnknownCustomer
from bankllm.assistant.facts import ReadyCall
from bankllm.errors import LedgerError

ME, TALK = "CUST003", "talk"
"""A customer with a current, a savings and a joint account; CUST004 is the other holder of the joint account."""
CURRENT, SAVINGS, JOINT = "ACC00301", "ACC00302", "ACC00303"
PAYEE = "PAY00301"
FIFTY = {"amount_minor": 5000, "payee_id": PAYEE}


def propose(desk: ActionDesk, tool: str = "transfer", talk: str = TALK, who: str = ME, **arguments: Any) -> Proposal:
    return desk.propose(who, talk, ReadyCall(tool, arguments or (dict(FIFTY) if tool == "transfer" else {})))


def confirm(desk: ActionDesk, made: Proposal) -> Proposal:
    return desk.confirm(made.customer_id, made.action_id, made.digest)


def rows(bank: SQLiteBank, sql: str) -> list[tuple[Any, ...]]:
    with bank.reading() as db:
        return db.execute(sql).fetchall()


def state_of(bank: SQLiteBank) -> list[list[tuple[Any, ...]]]:
    """Everything that an action may change; the books must balance."""
    assert rows(bank, "SELECT * FROM unbalanced") == []
    return [rows(bank, f"SELECT * FROM {table}") for table in ("entries", "postings", "cards", "scheduled")]


def available(bank: SQLiteBank, account_id: str, who: str = ME) -> int:
    return next(account.available_minor for account in bank.accounts(who) if account.account_id == account_id)


def test_a_transfer_changes_nothing_until_it_is_confirmed_and_is_then_booked_once(
    desk: ActionDesk, bank: SQLiteBank
) -> None:
    before, had = state_of(bank), available(bank, CURRENT)
    made = propose(desk)
    assert made.text == (
        f"Transfer £50.00 from your Current account ending {bank.accounts(ME)[0].ending} to Daniel Nair ending "
        f"{bank.payees(ME)[0].ending} today, 29 November 2026"
    )
    assert state_of(bank) == before
    assert desk.pending(ME, TALK) == made
    assert re.fullmatch("[a-p]{32}", made.action_id)
    done = confirm(desk, made)
    assert (done.state, done.digest) == ("booked", made.digest)
    assert done.result.startswith(f"Done: {made.text}. Your Current account now has ")
    after = state_of(bank)
    assert len(after[0]) == len(before[0]) + 1
    assert available(bank, CURRENT) == had - 5000
    assert [confirm(desk, made) for _ in range(3)] == [done] * 3
    assert state_of(bank) == after
    assert desk.pending(ME, TALK) is None
    newest = bank.transactions(ME)[0]
    assert (newest.counterparty, newest.amount_minor, newest.kind) == ("Daniel Nair", -5000, "transfer")


def test_a_transfer_between_own_accounts_and_one_for_a_later_day(desk: ActionDesk, bank: SQLiteBank) -> None:
    confirm(desk, propose(desk, amount_minor=100, from_account_id=JOINT, to_account_id=SAVINGS))
    assert bank.transactions(ME)[0].kind == "own_transfer"
    before = available(bank, CURRENT)
    later = propose(desk, **FIFTY, date="2026-12-24", reference="rent & heat")
    assert "on 24 December 2026, reference “rent & heat”" in later.text
    assert "You can cancel it until then" in confirm(desk, later).result
    assert available(bank, CURRENT) == before
    assert propose(desk, "cancel_transfer").arguments == {"scheduled_id": later.action_id}  # of this conversation
    with pytest.raises(ActionRefused, match=r"Which transfer do you mean: £40.00 to Daniel Nair on .*; £50.00 to"):
        propose(desk, "cancel_transfer", "another talk")
    undo = propose(desk, "cancel_transfer", amount_minor=5000)
    assert undo.text == "Cancel the transfer of £50.00 to Daniel Nair on 24 December 2026"
    assert confirm(desk, undo).result.endswith("It will not be sent.")
    status = f"SELECT status, due FROM scheduled WHERE scheduled_id = '{later.action_id}'"
    assert rows(bank, status) == [("cancelled", "2026-12-24")]


REFUSED = {
    "nothing": ({"amount_minor": 0}, "more than nothing"),
    "minus": ({"amount_minor": -5000}, "more than nothing"),
    "a million millions": ({"amount_minor": 10**14}, "You can transfer £10,000.00 a day, and £10,000.00 of it is left"),
    "three decimals": ({"amount_minor": 12.345}, "could not read the amount"),
    "true": ({"amount_minor": True}, "could not read the amount"),
    "missing": ({"amount_minor": None}, "could not read the amount"),
    "other currency": ({"currency": "EUR"}, "Your Current account is in GBP, so I cannot use EUR"),
    "past": ({"date": "2026-11-28"}, "28 November 2026 is in the past"),
    "no such day": ({"date": "2026-02-31"}, "could not read the date"),
    "no date": ({"date": 7}, "could not read the date"),
    "unknown payee": ({"payee_id": "=SUM(A1)"}, "I found no saved payee for this. You have: Daniel Nair; Daniel Osei"),
    "payee of another": ({"payee_id": "PAY00401"}, "I found no saved payee"),
    "no payee": (
        {"payee_id": None},
        "only to a payee that you have saved. Your saved payees: Daniel Nair, Daniel Osei",
    ),
    "account of another": ({"from_account_id": "ACC00401"}, "I found no account for this"),
    "internal account": ({"from_account_id": "OUTSIDE-GBP"}, "I found no account for this"),
    "same account": ({"to_account_id": CURRENT, "from_account_id": CURRENT}, "Both accounts are the same"),
    "to another's account": ({"to_account_id": "ACC00401"}, "I found no account of yours"),
    "too much": ({"amount_minor": 900_000}, "Your Current account has £1,977.53 available, which is not enough"),
    "html": ({"reference": "<b>rent</b>"}, "A reference has at most 18 letters"),
}


@pytest.mark.parametrize(("wrong", "reason"), REFUSED.values(), ids=REFUSED)
def test_an_impossible_transfer_is_refused_and_ends_the_proposal_before(
    wrong: dict[str, Any], reason: str, desk: ActionDesk, bank: SQLiteBank
) -> None:
    before, waiting = state_of(bank), propose(desk)
    with pytest.raises(ActionRefused, match=re.escape(reason)) as caught:
        propose(desk, **(FIFTY | wrong))
    assert str(caught.value).endswith("Nothing was done.")
    with pytest.raises(ActionClosed, match="A newer request took its place"):
        confirm(desk, waiting)
    assert state_of(bank) == before


def test_unread_arguments_and_tools_that_do_not_act_are_refused(desk: ActionDesk) -> None:
    with pytest.raises(ActionRefused, match=r"I could not read the amount\. Nothing was done"):
        desk.propose(ME, TALK, ReadyCall("transfer", dict(FIFTY), ("I could not read the amount.",)))
    with pytest.raises(ActionRefused, match="balance is no action"):
        propose(desk, "balance")
    with pytest.raises(UnknownCustomer):
        propose(desk, who="CUST999")


def test_money_is_not_exchanged(desk: ActionDesk) -> None:
    with pytest.raises(ActionRefused, match="Travel account is in JPY and your Current account in GBP"):
        propose(desk, who="CUST010", amount_minor=100, to_account_id="ACC01002")


def test_the_daily_limit_counts_what_was_booked(desk: ActionDesk, bank: SQLiteBank) -> None:
    with bank.writing() as db:
        db.execute("UPDATE accounts SET overdraft_minor = 10000000 WHERE account_id = ?", (CURRENT,))
    confirm(desk, propose(desk, amount_minor=700_000, payee_id=PAYEE))
    waiting = propose(desk, "transfer", "another talk", amount_minor=300_000, payee_id=PAYEE)
    confirm(desk, propose(desk, amount_minor=1, payee_id=PAYEE, date="2026-12-01"))
    with pytest.raises(ActionClosed, match=r"£2,999\.99 of it is left today"):
        confirm(desk, waiting)
    assert desk.latest(ME, "another talk") == desk.proposals(ME)[1]
    assert desk.proposals(ME)[1].state == "refused"


CARD = "CARD00301"


def card(bank: SQLiteBank, id_: str = CARD) -> Any:
    return next(each for each in bank.cards(ME) if each.card_id == id_)


def test_a_card_is_frozen_unfrozen_limited_reported_and_replaced(desk: ActionDesk, bank: SQLiteBank) -> None:
    with pytest.raises(ActionRefused, match=r"Which card do you mean: Visa Debit ending .*; .* ending"):
        propose(desk, "freeze_card", card_id=None)
    confirm(desk, propose(desk, "freeze_card", card_id=CARD))
    assert (card(bank).status, card(bank).since) == ("frozen", "2026-11-29")
    with pytest.raises(ActionRefused, match="is frozen, so this is not possible"):
        propose(desk, "freeze_card", card_id=CARD)
    assert propose(desk, "unfreeze_card").arguments == {"card_id": CARD}  # the only frozen one
    confirm(desk, propose(desk, "unfreeze_card", card_id=CARD))
    limit = propose(desk, "set_limit", card_id=CARD, amount_minor=20_000)
    assert limit.text.endswith("to £200.00 a day, instead of £1,000.00")
    confirm(desk, limit)
    assert (card(bank).status, card(bank).limit_minor) == ("active", 20_000)
    for wrong in ({"amount_minor": 0}, {"amount_minor": 10**9}, {"amount_minor": 100, "currency": "JPY"}):
        with pytest.raises(ActionRefused):
            propose(desk, "set_limit", card_id=CARD, **wrong)
    with pytest.raises(ActionRefused, match="lost or stolen"):
        propose(desk, "report_card", card_id=CARD)
    confirm(desk, propose(desk, "report_card", card_id=CARD, kind="stolen"))
    assert card(bank).status == "stolen"
    with pytest.raises(ActionRefused, match="is stolen, so this is not possible"):
        propose(desk, "unfreeze_card", card_id=CARD)
    ordered = confirm(desk, propose(desk, "replace_card", card_id=CARD))
    new = card(bank, f"CARD-{ordered.action_id[:12]}")
    assert (new.status, new.account_id, new.expires) == ("ordered", card(bank).account_id, "2030-11")
    with pytest.raises(ActionRefused, match="already on its way"):
        propose(desk, "replace_card", card_id=CARD)


def test_only_the_same_customer_with_the_same_digest_can_confirm(desk: ActionDesk, bank: SQLiteBank) -> None:
    """The other holder of a joint account gets the answer that an unknown id gets."""
    before, made = state_of(bank), propose(desk, **FIFTY, from_account_id=JOINT)
    answers = []
    for who, id_ in (("CUST004", made.action_id), ("CUST001", made.action_id), (ME, "x"), ("CUST004", "x")):
        for end in (desk.confirm, desk.cancel):
            with pytest.raises(UnknownAction) as caught:
                end(who, id_, made.digest)
            answers.append(str(caught.value))
    assert len(set(answers)) == 1
    assert desk.proposals("CUST004") == []
    for digest in ("", made.digest[:-1], made.digest.upper(), propose(desk, talk="b").digest, "é"):
        with pytest.raises(ActionClosed, match="digest"):
            desk.confirm(ME, made.action_id, digest)
    assert state_of(bank) == before
    assert confirm(desk, made).state == "booked"


def test_a_new_proposal_replaces_the_old_one_of_its_conversation_only(desk: ActionDesk) -> None:
    old, other = propose(desk), propose(desk, talk="another")
    new = propose(desk, amount_minor=4000, payee_id=PAYEE)
    assert new.digest != old.digest != other.digest
    with pytest.raises(ActionClosed, match="A newer request took its place"):
        confirm(desk, old)
    assert {confirm(desk, made).state for made in (new, other)} == {"booked"}


def test_a_cancelled_proposal_stays_cancelled_and_a_booked_one_booked(desk: ActionDesk, bank: SQLiteBank) -> None:
    before, made = state_of(bank), propose(desk)
    assert {desk.cancel(ME, made.action_id, made.digest).state for _ in range(2)} == {"cancelled"}
    with pytest.raises(ActionClosed, match="This was cancelled"):
        confirm(desk, made)
    assert state_of(bank) == before
    booked = confirm(desk, propose(desk))
    with pytest.raises(ActionClosed, match="done already"):
        desk.cancel(ME, booked.action_id, booked.digest)


@pytest.mark.parametrize("moved_s", [LIFETIME_S + 1, 10 * 365 * 86_400, -3600])
def test_a_proposal_ends_when_its_time_is_over_whatever_happens_to_the_clock(
    moved_s: float, desk: ActionDesk, bank: SQLiteBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is set back does not prolong it: a desk that was started later takes it for expired."""
    before, made, now = state_of(bank), propose(desk), time.time()
    with monkeypatch.context() as clock:
        clock.setattr("time.time", lambda: now + moved_s)
        desk = desk if moved_s > 0 else ActionDesk(bank, desk.settings)
        assert desk.pending(ME, TALK) is None
        with pytest.raises(ActionClosed, match="not confirmed within ten minutes"):
            confirm(desk, made)
    assert state_of(bank) == before
    with pytest.raises(ActionClosed, match="not confirmed within ten minutes"):
        confirm(desk, made)


CHANGES = {
    "balance": "INSERT INTO pending (pending_id, account_id, authorised, amount_minor, description, category) "
    "VALUES (99, 'ACC00301', '2026-11-29', -200000, 'x', 'fees')",
    "payee": "UPDATE payees SET name = 'Eve' WHERE payee_id = 'PAY00301'",
    "ownership": "DELETE FROM holders WHERE account_id = 'ACC00301'",
    "stored arguments": "UPDATE actions SET arguments = replace(arguments, '5000', '5001')",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_is_planned_again_at_the_booking(change: str, desk: ActionDesk, bank: SQLiteBank) -> None:
    made, before = propose(desk), state_of(bank)
    with bank.writing() as db:
        db.execute(change)
    with pytest.raises(ActionClosed, match=r"was not possible|digest"):
        confirm(desk, made)
    assert state_of(bank) == before


def test_held_payments_are_refused_everywhere_for_a_day(
    desk: ActionDesk, bank: SQLiteBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by another worker, in another conversation, and if they were proposed before."""
    made, other, before = propose(desk), ActionDesk(bank, desk.settings), state_of(bank)
    desk.hold_payments(ME)
    with pytest.raises(ActionClosed, match="looks like a scam"):
        other.confirm(ME, made.action_id, made.digest)
    for arguments in (FIFTY, {}):
        with pytest.raises(ActionRefused, match=r"looks like a scam.*person.*Nothing was done"):
            other.propose(ME, "another talk", ReadyCall("transfer", arguments))
    with pytest.raises(ActionRefused, match="looks like a scam"):
        propose(desk, "set_limit", card_id="CARD00301", amount_minor=900_000)
    assert state_of(bank) == before
    assert propose(desk, from_account_id=CURRENT, to_account_id=SAVINGS, amount_minor=5000).state == "proposed"
    assert propose(desk, "freeze_card", card_id="CARD00301").state == "proposed"
    assert other.propose("CUST004", TALK, ReadyCall("transfer", {"amount_minor": 1, "payee_id": "PAY00401"}))
    later = time.time() + HOLD_S + 1
    monkeypatch.setattr("time.time", lambda: later)
    assert not other.holds_payments(ME)
    assert propose(desk).state == "proposed"


def race(calls: list[Callable[[], Proposal]]) -> list[str]:
    def outcome(call: Callable[[], Proposal]) -> str:
        try:
            return call().state
        except ActionClosed:
            return "closed"

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(outcome, calls))


def test_confirmations_at_the_same_time_book_once(desk: ActionDesk, bank: SQLiteBank) -> None:
    """Two desks with connections of their own, as two worker processes have them, and two threads of each."""
    with bank.reading() as db:
        file = db.execute("SELECT file FROM pragma_database_list").fetchone()[0]
    other_bank = SQLiteBank(sqlite3.connect(file, check_same_thread=False))
    other = ActionDesk(other_bank, desk.settings)
    for number in range(10):
        made, before = propose(desk), len(state_of(bank)[0])
        ends = [desk.confirm, other.confirm, desk.confirm, other.cancel if number % 2 else other.confirm]
        states = race([partial(end, ME, made.action_id, made.digest) for end in ends])
        assert len(state_of(bank)[0]) == before + ("booked" in states)
        assert set(states) in ({"booked"}, {"booked", "closed"}, {"cancelled", "closed"})
    other_bank.close()


@pytest.mark.parametrize(
    ("fault", "repair"), [("query_only = 1", "query_only = 0"), ("max_page_count = 1", "max_page_count = 1000000")]
)
def test_a_ledger_that_is_read_only_or_full_books_nothing(
    fault: str, repair: str, desk: ActionDesk, bank: SQLiteBank
) -> None:
    before = state_of(bank)
    rows(bank, f"PRAGMA {fault}")  # no page is added to the file
    with pytest.raises(LedgerError, match=r"readonly|full"):
        [propose(desk, **FIFTY, reference="x" * 18) for _ in range(100)]
    assert state_of(bank) == before
    rows(bank, f"PRAGMA {repair}")
    assert confirm(desk, propose(desk)).state == "booked"
