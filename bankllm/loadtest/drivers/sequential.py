"""Load driver that sends one request after the other on one connection: the latency without any other load."""

from pathlib import Path

from bankllm.loadtest.drivers.open_loop import send
from bankllm.loadtest.load import LOAD_DRIVERS, Load, LoadDriver, LoadResult


def run_sequential(load: Load, folder: Path) -> LoadResult:
    """Send each request when the reply to the one before is complete. Writes no files.

    The rows of chats have further columns: `intent`, and the duration of each stage that the server reports, such as
    `encode_ms`.
    """
    result = send(load)
    columns = dict.fromkeys(name for row in result.rows for name in row)
    result.rows = [{name: row.get(name, "") for name in columns} for row in result.rows]
    return result


LOAD_DRIVERS.add("sequential", LoadDriver(run_sequential, "closed", ("chat", "stream", "health"), most_users=1))
