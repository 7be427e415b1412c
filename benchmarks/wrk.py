"""`wrk` as the load generator of the benchmarks: closed loop, one thread, POST bodies repeated from a file.

with TemporaryDirectory() as folder:
    window = drive(calls, server.url + "/api/v1/chat", Path(folder), seconds=20)

wrk's command line does not print a p95, so the results come from its Lua hook `done`. wrk corrects percentiles for
coordinated omission (`stats_correct`): a reply that takes more than twice the mean of its connection also counts for
each request that it delayed. With uneven latency, these percentiles are therefore higher than those of the replies.
Rates, errors and `max` are not corrected.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bankllm.errors import NotMeasured, ServerError
from bankllm.util import processes

REPLY_TIMEOUT_S = 10

SCRIPT = """
local calls, at = {}, 0

function init(arguments)
  for line in io.lines("calls.tsv") do
    local token, body = line:match("^(.-)\\t(.*)$")
    local headers = {["Content-Type"] = "application/json"}
    if token ~= "" then headers["Authorization"] = "Bearer " .. token end
    calls[#calls + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  at = at % #calls + 1
  return calls[at]
end

function done(summary, latency, requests)
  local errors = summary.errors
  local file = io.open("window.json", "w")
  file:write(string.format(
    '{"answered": %d, "seconds": %f, "p50_ms": %f, "p95_ms": %f, "p99_ms": %f, "max_ms": %f, "errors": ' ..
    '{"status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}}',
    summary.requests - errors.status, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
  file:close()
end
"""


@dataclass(frozen=True)
class Call:
    """One POST request: a JSON body and the bearer token."""

    body: dict[str, str]
    token: str = ""


@dataclass(frozen=True)
class Window:
    """The result of wrk. A reply with status 400 or above is an error: it is in the percentiles, not in the rate."""

    answered: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    errors: dict[str, int]
    """Kind of error → number, without zeros."""
    generator_cpu_share: float
    """CPU time of wrk divided by wall time, as a share of one core."""

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


def require() -> str:
    """Return the path of wrk. Raises `NotMeasured` if it is not installed."""
    program = shutil.which("wrk")
    if program is None:
        raise NotMeasured("wrk not found; install it (apt-get install wrk) and run again.")
    return program


def drive(calls: Sequence[Call], url: str, folder: Path, *, seconds: float, connections: int = 100) -> Window:
    """Keep `connections` requests in flight for `seconds`, rounded to whole seconds.

    Raises `NotMeasured` without wrk, and `ServerError` if wrk failed.
    """
    lines = [f"{call.token}\t{json.dumps(call.body)}\n" for call in calls]
    (folder / "calls.tsv").write_text("".join(lines), encoding="utf-8")
    (folder / "wrk.lua").write_text(SCRIPT, encoding="utf-8")
    (folder / "window.json").unlink(missing_ok=True)
    duration = max(1, round(seconds))
    command = [require(), "--threads", "1", "--connections", str(connections), "--duration", f"{duration}s"]
    command += ["--timeout", f"{REPLY_TIMEOUT_S}s", "--script", "wrk.lua", url]
    log = folder / "wrk.txt"
    child = processes.run(command, log, timeout_s=duration + 60)
    if child.cpu_s is None or child.returncode or not (folder / "window.json").exists():
        raise ServerError(
            f"wrk failed (exit code {child.returncode}). Check that {url} answers. The end of wrk's output:\n"
            f"{processes.tail(log)}"
        )
    window = Window(**json.loads((folder / "window.json").read_text()), generator_cpu_share=child.cpu_s / child.wall_s)
    return replace(window, errors={kind: count for kind, count in window.errors.items() if count})
