"""What the store of texts and the ledger share: transactions, packaged scripts, advice on errors, chained tables."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bankllm.util.hash_chain import Link, chained, link_of, parse

DATA = Path(__file__).parents[1] / "data"
_ADVICE = {
    "SQLITE_BUSY": "Another process has locked the file: stop that process, or try again.",
    "SQLITE_CANTOPEN": "Expected a path in a folder that exists and is writable.",
    "SQLITE_CORRUPT": "The file is damaged or truncated; move it away and restore a backup.",
    "SQLITE_IOERR": "Check the disk (free space, health, file size limits of this user) and that this user can write "
    "the file and its journal files; then repeat the call.",
    "SQLITE_FULL": "Free some disk space, then repeat the call.",
    "SQLITE_NOTADB": "Expected a file that bankllm wrote; use another path, or move this file away.",
    "SQLITE_READONLY": "Expected a file and a folder that this user can write; change the permissions or the path.",
}


def advice(error: sqlite3.Error | str) -> str:
    """Return what to do about an error, or about its name such as `SQLITE_READONLY_DIRECTORY`; empty if unknown."""
    name = error if isinstance(error, str) else getattr(error, "sqlite_errorname", "")
    return next((text for code, text in _ADVICE.items() if name.startswith(code)), "")


@contextmanager
def transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Run the body in a transaction (`DEFERRED` or `IMMEDIATE`): commit at the end, roll back on an exception."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def run_script(db: sqlite3.Connection, name: str, **values: str) -> None:
    """Run the statements of a packaged file, which end with a semicolon and an empty line, in the open transaction."""
    for statement in (DATA / name).read_text(encoding="utf-8").split(";\n\n"):
        db.execute(statement, values)


def append_link(db: sqlite3.Connection, table: str, body: Mapping[str, Any], key: bytes | None = None) -> Link:
    """Append an entry of a hash chain to a table with the columns `number`, `hash` and `entry` (JSON).

    `number` and `hash` repeat the entry's, so that a damaged entry does not prevent the next one.
    """
    entry = chained(body, last_link(db, table), key)
    link = link_of(entry)
    db.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (link.number, link.hash, json.dumps(entry)))
    return link


def last_link(db: sqlite3.Connection, table: str) -> Link | None:
    row = db.execute(f"SELECT number, '', hash FROM {table} ORDER BY number DESC LIMIT 1").fetchone()
    return Link(*row) if row else None


def chain_of(db: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    """Return the entries of a chained table, oldest first; `hash_chain.verify` checks them."""
    return [parse(entry) for (entry,) in db.execute(f"SELECT entry FROM {table} ORDER BY number")]
