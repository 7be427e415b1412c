"""How long a file keeps its rows, and how many of them expire when: `bankllm memory retention`."""

import math
import time
from datetime import UTC, datetime
from pathlib import Path

from bankllm.vectors.rows import COLLECTION, check_namespace, check_ttl
from bankllm.vectors.sqlite.connection import SharedConnection
from bankllm.vectors.sqlite.file import existing

DAY_S = 86_400
OWN_TTL = f"""SELECT ttl_s FROM retention WHERE namespace = ?1 OR (namespace = '' AND ?1 NOT LIKE '{COLLECTION}%')
    ORDER BY namespace DESC LIMIT 1"""
"""The time to live of the namespace ?1 in seconds; no row if the file has none."""
_EXPIRE = f"""UPDATE rows SET expires_at = (julianday(created_at) - 2440587.5) * 86400.0 + ?2 WHERE namespace = ?1 OR
    (?1 = '' AND namespace NOT LIKE '{COLLECTION}%' AND namespace NOT IN (SELECT namespace FROM retention))"""
_DUE = f"""SELECT CASE WHEN expires_at IS NULL THEN 'never' WHEN expires_at <= :now THEN 'expired'
    WHEN expires_at <= :now + {DAY_S} THEN 'in a day' WHEN expires_at <= :now + {7 * DAY_S} THEN 'in a week'
    WHEN expires_at <= :now + {30 * DAY_S} THEN 'in 30 days' ELSE 'later' END AS due, count(*), min(expires_at)
    FROM rows WHERE :namespace IS NULL OR namespace = :namespace GROUP BY due ORDER BY min(expires_at) IS NULL, 3"""


def retain(connection: SharedConnection, namespace: str | None, ttl_s: float | None) -> None:
    """Do `SQLiteStore.retain`."""
    if namespace is not None:
        check_namespace(namespace)
    check_ttl(ttl_s)
    lifetime, name = None if ttl_s == math.inf else ttl_s, namespace or ""
    with connection.writing() as db:
        db.execute("INSERT OR REPLACE INTO retention VALUES (?, ?)", (name, lifetime))
        db.execute(_EXPIRE, (name, lifetime))


def overview(path: Path, namespace: str | None) -> list[tuple[str, int, str]]:
    """Return when rows expire, how many do, and the time of the first of them, of one namespace or of all."""
    with existing(path) as db:
        found = db.execute(_DUE, {"now": time.time(), "namespace": namespace}).fetchall()
    return [
        (due, count, "" if first is None else datetime.fromtimestamp(first, UTC).isoformat(timespec="seconds"))
        for due, count, first in found
    ]


def lifetimes(path: Path) -> list[tuple[str, float | None]]:
    """Return the namespaces with a time to live ('' for all customers without their own) and that time in seconds."""
    with existing(path) as db:
        return db.execute("SELECT namespace, ttl_s FROM retention ORDER BY namespace").fetchall()
