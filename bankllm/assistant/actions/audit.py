"""The audit log: what was proposed, confirmed, cancelled and booked, as a chain of entries that is only appended to.

It is a table of the ledger's file (`data/actions.sql`), and an entry is written in the transaction of the change that
it records. Triggers refuse to change or delete an entry; the chain (`bankllm.util.hash_chain`, HMAC) shows it where
someone got around them. An entry holds ids and digests, but no text of a message and no amount. After each commit the
chain's last entry goes to the server's log, so that `bankllm audit --log` notices removed entries.
"""

import logging
import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bankllm.assistant.bank.backends.sqlite_bank import SCHEMA_VERSION, SQLiteBank
from bankllm.errors import LedgerError, UsageError
from bankllm.settings import Settings
from bankllm.util.hash_chain import Link, verify
from bankllm.util.sqlite import append_link, chain_of, last_link, run_script
from bankllm.util.text import DIGITS, LETTERS

logger = logging.getLogger(__name__)

MIN_KEY_BYTES = 32
_MAKE = "Create one with: python -c 'import secrets; print(secrets.token_urlsafe(48))'"
_HEAD = re.compile(r"audit head ([0-9]+) ([a-p]{64})\b")


def file_of(db: sqlite3.Connection) -> Path | None:
    """The file of a connection; None for a database in memory."""
    file = Path(db.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()[0])
    return file if file.is_absolute() else None  # a deserialised database has a relative name


def prepare(bank: SQLiteBank, settings: Settings) -> bytes:
    """Create the tables of `data/actions.sql` if they are missing; return `audit_key`, and raise as it does.

    A ledger of schema 1 gets schema 2.
    """
    with bank.writing() as db:
        if db.execute("PRAGMA user_version").fetchone()[0] < SCHEMA_VERSION:
            run_script(db, "ledger_2.sql")
        run_script(db, "actions.sql")
        return audit_key(settings, db)


@contextmanager
def writing(bank: SQLiteBank) -> Iterator[sqlite3.Connection]:
    """A transaction; after its commit, the end of the audit log goes to the server's log."""
    with bank.writing() as db:
        yield db
        head = last_link(db, "audit")
    log_head(head)


def append(db: sqlite3.Connection, key: bytes, event: str, **fields: Any) -> None:
    """Append an entry within the caller's transaction, see `writing`."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    append_link(db, "audit", {"at": at, "event": event} | fields, key)


def log_head(link: Link | None) -> None:
    if link:
        logger.info("audit head %d %s", link.number, link.hash.translate(LETTERS))


def logged_heads(log: Path) -> list[Link]:
    """The chain's ends that a server's log names. Raises `UsageError` if the log names none."""
    heads = [
        Link(int(number), "", hash_.translate(DIGITS))
        for number, hash_ in _HEAD.findall(log.read_text(errors="replace"))
    ]
    if not heads:
        raise UsageError(f"{log} names no head of an audit log. Expected the file that --log-file of the server wrote.")
    return heads


def check_chain(db: sqlite3.Connection, key: bytes, kept: Iterable[Link] = ()) -> list[dict[str, Any]]:
    """Return the entries, oldest first. Raises `ChainBroken` if one was changed, removed, inserted or moved."""
    entries = chain_of(db, "audit")
    verify(entries, key, list(kept))
    return entries


def audit_key(settings: Settings, db: sqlite3.Connection) -> bytes:
    """The key of the chain: `BANKLLM_AUDIT_KEY`, or in development that of the file beside the ledger.

    The file is made for an empty log; a ledger in memory gets a key that ends with it. Call it in a transaction. Raises
    `UsageError` for a key that is missing or short, `LedgerError` for a file that is lost.
    """
    if settings.audit_key is not None:
        key = settings.audit_key.get_secret_value().encode()
        if len(key) < MIN_KEY_BYTES:
            raise UsageError(f"BANKLLM_AUDIT_KEY has {len(key)} bytes, expected at least {MIN_KEY_BYTES}. {_MAKE}")
        return key
    if settings.environment != "development":
        raise UsageError(
            f"ENVIRONMENT={settings.environment} requires BANKLLM_AUDIT_KEY, the key of the audit log. Keep it where "
            f"nobody who can write the ledger can read it. {_MAKE}"
        )
    if (ledger := file_of(db)) is None:
        return secrets.token_bytes(MIN_KEY_BYTES)
    file = ledger.with_name(f"{ledger.name}.audit-key")
    try:
        if not file.exists() and last_link(db, "audit") is None:
            file.touch(mode=0o600)
            file.write_text(secrets.token_hex(MIN_KEY_BYTES))
        return file.read_bytes()
    except OSError as error:
        raise LedgerError(
            f"The audit log's key {file} cannot be used ({error.strerror}). Restore the file, or set BANKLLM_AUDIT_KEY."
        ) from error
