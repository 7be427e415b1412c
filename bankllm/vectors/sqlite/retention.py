"""How long a file keeps its rows, and how many of them expire when: `bankllm memory retention`."""

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

from bankllm.vectors.sqlite.file import store_errors

DAY_S = 86_400
_DUE = f"""SELECT CASE WHEN expires_at IS NULL THEN 'never' WHEN expires_at <= :now THEN 'expired'
    WHEN expires_at <= :now + {DAY_S} THEN 'in a day' WHEN expires_at <= :now + {7 * DAY_S} THEN 'in a week'
    WHEN expires_at <= :now + {30 * DAY_S} THEN 'in 30 days' ELSE 'later' END AS due, count(*), min(expires_at)
    FROM rows WHERE :namespace IS NULL OR namespace = :namespace GROUP BY due ORDER BY min(expires_at) IS NULL, 3"""


def overview(db: sqlite3.Connection, path: Path, namespace: str | None) -> list[tuple[str, int, str]]:
    """Return when rows expire, how many do, and the time of the first of them, of one namespace or of all."""
    with store_errors(path):
        found = db.execute(_DUE, {"now": time.time(), "namespace": namespace}).fetchall()
    return [(due, count, "" if first is None else _iso(first)) for due, count, first in found]


def lifetimes(db: sqlite3.Connection, path: Path) -> list[tuple[str, float | None]]:
    """Return the namespaces with a time to live ('' for all customers without their own) and that time in seconds."""
    with store_errors(path):
        return db.execute("SELECT namespace, ttl_s FROM retention ORDER BY namespace").fetchall()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
