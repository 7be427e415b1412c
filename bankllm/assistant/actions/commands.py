"""`bankllm audit`: verify the audit log, and that actions, log and journal agree."""

import sqlite3
from pathlib import Path
from typing import Annotated

import typer

from bankllm.errors import ChainBroken, LedgerError
from bankllm.settings import get_settings
from bankllm.util.hash_chain import Link


def audit(
    ledger: Annotated[
        Path | None, typer.Argument(help="The ledger's file.", show_default="that of BANKLLM_LEDGER")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="The server's log, whose heads show whether entries at the end were removed.")
    ] = None,
) -> None:
    """Verify the audit log of a ledger. The exit code is 1 if an entry was changed, removed, inserted or moved."""
    from bankllm.assistant.actions.audit import audit_key, logged_heads
    from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
    from bankllm.assistant.bank.ledger import open_bank

    settings = get_settings()
    heads = logged_heads(log) if log else []
    bank = open_bank(f"sqlite:{ledger}" if ledger else settings.ledger, settings)
    try:
        if not isinstance(bank, SQLiteBank):
            raise LedgerError(f"BANKLLM_LEDGER={settings.ledger} is no SQLite file, so it has no audit log of bankllm.")
        with bank.writing() as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit'").fetchone():
                raise LedgerError("The ledger has no audit log. Expected one that `bankllm serve` has opened.")
            summary = check_ledger(db, audit_key(settings, db), heads)
    finally:
        bank.close()
    typer.echo(summary)


def check_ledger(db: sqlite3.Connection, key: bytes, heads: list[Link]) -> str:
    """Return a sentence about a log that holds. Raises `ChainBroken`."""
    from bankllm.assistant.actions.audit import check_chain
    from bankllm.assistant.actions.stored import select

    entries = check_chain(db, key, heads)
    proposals = {proposal.action_id: proposal for proposal in select(db)}
    logged = {entry["action_id"]: entry for entry in entries if "action_id" in entry}  # the last entry of each
    for id_ in proposals.keys() | logged.keys():
        stored, entry = proposals.get(id_), logged.get(id_)
        if not stored or not entry or (stored.state, stored.digest) != (entry["event"], entry["digest"]):
            raise _disagree(f"the action {id_} is missing or changed")
    booked = [entry for entry in entries if entry["event"] == "booked"]
    journal = [entry["entry"] for entry in booked if "entry" in entry]
    if len({entry["action_id"] for entry in booked}) < len(booked) or len(set(journal)) < len(journal):
        raise _disagree("an action was booked twice")
    known = {number for (number,) in db.execute("SELECT entry_id FROM postings")}
    if not known.issuperset(journal) or db.execute("SELECT 1 FROM unbalanced").fetchone():
        raise _disagree("an entry of the journal is missing, or does not balance")
    kept = f", and the log's {len(heads)} heads are in it" if heads else ""
    return f"{len(entries)} entries, {len(proposals)} actions, {len(booked)} booked. The chain holds{kept}."


def _disagree(reason: str) -> ChainBroken:
    return ChainBroken(f"The audit log does not fit the ledger: {reason}. Keep the file and compare it with a backup.")
