"""Load drivers of users who send a request when the reply to the one before is complete, without a pause.

`sequential` has one user: the latency without any other load. `closed-loop` has several: the work that a server can do.
"""

from pathlib import Path

from bankllm.loadtest.drivers.open_loop import send
from bankllm.loadtest.load import LOAD_DRIVERS, Load, LoadDriver, LoadResult


def run_closed_loop(load: Load, folder: Path) -> LoadResult:
    """Send the requests of `load.users` users from a thread of this process. Writes no files.

    The rows of chats have further columns: `intent`, and the duration of each stage that the server reports, such as
    `encode_ms`.
    """
    result = send(load)
    columns = dict.fromkeys(name for row in result.rows for name in row)
    result.rows = [{name: row.get(name, "") for name in columns} for row in result.rows]
    return result


LOAD_DRIVERS.add("sequential", LoadDriver(run_closed_loop, "closed", ("chat", "stream", "health"), most_users=1))
LOAD_DRIVERS.add("closed-loop", LoadDriver(run_closed_loop, "closed", ("chat", "stream", "health")))
