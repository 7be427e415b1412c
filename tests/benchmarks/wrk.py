"""`wrk` as the load generator of these benchmarks: closed loop, one thread, POST bodies in turn from a file.

with TemporaryDirectory() as folder:
    window = drive(calls, server.url + "/api/v1/chat", Path(folder), seconds=20)

Its command line has no p95, so the figures come from its Lua hook `done`. wrk corrects percentiles for coordinated
omission (`stats_correct`): a reply slower than twice a connection's mean counts again for each request it held up.
So they are higher than percentiles of the replies alone, where latency is uneven; rates, errors and `max` are as seen.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bankllm.errors import NotMeasured, ServerError
from bankllm.util import processes

REPLY_TIMEOUT_S = 10
MOST_BUSY = 0.9
"""Share of a core from which the generator, not the server, may set the pace."""

SCRIPT = """
local calls, at = {}, 0

function init(arguments)
  for line in io.lines("calls.tsv") do
    local token, body = line:match("^(.-)\\t(.*)$")
    local headers = {["Content-Type"] = "application/json"}
    if token ~= "" then headers["Authorization"] = "Bearer " .. token end
    calls[#calls + 1] = wrk.format("POST", nil, headers, body)
  end
  if #calls == 0 then calls[1] = wrk.format("GET") end
end

function request()
  at = at % #calls + 1
  return calls[at]
end

function done(summary, latency, requests)
  local errors = summary.errors
  local file = io.open("window.json", "w")
  file:write(string.format(
    '{"replies": %d, "microseconds": %d, "p50": %d, "p95": %d, "p99": %d, "max": %d, "errors": ' ..
    '{"status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99),
    latency.max, errors.status, errors.connect, errors.read, errors.write, errors.timeout))
  file:close()
end
"""


@dataclass(frozen=True)
class Call:
    """One POST: a JSON body, and the bearer token it goes out with."""

    body: dict[str, str]
    token: str = ""


@dataclass(frozen=True)
class Window:
    """What wrk saw. A reply of status 400 or more is an error and counts in no rate, but does in the percentiles."""

    answered: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    errors: dict[str, int]
    """By kind; only those that happened."""
    generator_cpu_share: float
    """Of one core."""

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


def require() -> str:
    """The program's path. Raises `NotMeasured` where it is missing."""
    program = shutil.which("wrk")
    if program is None:
        raise NotMeasured("wrk not found; install it (apt-get install wrk) and run again.")
    return program


def drive(
    calls: Sequence[Call], url: str, folder: Path, *, seconds: float, connections: int = 100, core: int | None = None
) -> Window:
    """Keep `connections` requests in flight for some whole seconds; without calls, GET the address.

    `core` binds wrk to one core of the machine. Raises `NotMeasured` without wrk, `ServerError` if it gave up.
    """
    lines = [f"{call.token}\t{json.dumps(call.body)}\n" for call in calls]
    (folder / "calls.tsv").write_text("".join(lines), encoding="utf-8")
    (folder / "wrk.lua").write_text(SCRIPT, encoding="utf-8")
    (folder / "window.json").unlink(missing_ok=True)
    duration = max(1, round(seconds))
    command = [] if core is None else ["taskset", "-c", str(core)]
    command += [require(), "--threads", "1", "--connections", str(connections), "--duration", f"{duration}s"]
    command += ["--timeout", f"{REPLY_TIMEOUT_S}s", "--script", "wrk.lua", url]
    log = folder / "wrk.txt"
    child = processes.run(command, log, timeout_s=duration + 60)
    if child.cpu_s is None or child.returncode or not (folder / "window.json").exists():
        raise ServerError(f"wrk gave up; see that {url} answers. It said:\n{processes.tail(log)}")
    return read_window(json.loads((folder / "window.json").read_text(encoding="utf-8")), child.cpu_s / child.wall_s)


def read_window(told: dict, generator_cpu_share: float) -> Window:
    """What the hook wrote, in seconds and milliseconds."""
    errors = {kind: count for kind, count in told["errors"].items() if count}
    return Window(
        answered=told["replies"] - errors.get("status", 0),
        seconds=told["microseconds"] / 1e6,
        p50_ms=told["p50"] / 1000,
        p95_ms=told["p95"] / 1000,
        p99_ms=told["p99"] / 1000,
        max_ms=told["max"] / 1000,
        errors=errors,
        generator_cpu_share=generator_cpu_share,
    )
