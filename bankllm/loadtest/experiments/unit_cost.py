"""What chats cost: CPU time and memory of the server and of the language model's process, read between chunks of chats.

`benchmarks/simulation.py` needs the rows too: how long chats take alone, and how many are done when many are sent.
"""

from collections.abc import Callable, Mapping

from bankllm.loadtest.load import LoadResult, RequestRow
from bankllm.loadtest.reply_outcomes import LATE
from bankllm.util.processes import usable_cores

CHUNKS = 5
BUSY_USERS = {"rules": 32, "model": 4}
"""Users of the busy chunks, by path: several passes of the encoder, and the texts that the engine generates at once."""
NOT_STARTED = LATE - {"time-out"}
"""Fallbacks of chats for which the language model began no text."""
KEPT_COLUMNS = ("sent_s", "done_s", "service_ms", "classify_ms", "served_by", "fallback", "degraded", "error")


def measure_cost(
    ask: Callable[..., LoadResult], usage: Callable[[], Mapping[str, float]], path: str, chats: int
) -> tuple[list[RequestRow], list[RequestRow]]:
    """Send chunks of chats by one user, then by `BUSY_USERS` at once. Returns one row per chunk, and one per chat.

    `ask` runs a load with the given driver and keywords; `usage` is `ServerProcess.usage`. A chunk has its `path`,
    `users`, number of `chats` and of `texts` (chats for which the language model generated a text), `seconds`, usable
    `cores`, the CPU times before and after it, and the memory after it. In the chats, `consulted` says whether the
    language model was asked, and `generated` whether it began a text; `classify_ms` contains its time.
    """
    chunks, asked = list[RequestRow](), list[RequestRow]()
    for users in (1, BUSY_USERS[path]):
        for number in range(CHUNKS):
            before = usage()
            result = ask("closed-loop", users=users, requests=max(chats, users), kind="chat", seed=number)
            after = usage()
            about: RequestRow = {"path": path, "load": "one" if users == 1 else "busy", "users": users}
            rows = [about | {name: row.get(name, "") for name in KEPT_COLUMNS} for row in result.chats()]
            for row in rows:
                row["consulted"] = "yes" if row["served_by"] == "model" or row["fallback"] else "no"
                row["generated"] = "no" if row["fallback"] in NOT_STARTED else row["consulted"]
            texts = sum(row["generated"] == "yes" for row in rows)
            asked += rows
            chunks.append(
                about
                | {"chunk": number, "chats": len(rows), "texts": texts}
                | {"seconds": result.seconds, "cores": usable_cores()}
                | {f"{part}_before_s": before[f"{part}_cpu_s"] for part in ("all", "engine")}
                | {f"{part}_after_s": after[f"{part}_cpu_s"] for part in ("all", "engine")}
                | {name: after[name] for name in ("all_memory_bytes", "engine_memory_bytes")}
            )
    return chunks, asked
