"""Load driver that runs Locust with `locustfile.py` in a separate process: closed loop, users with pauses."""

import json
import signal
import sys
from dataclasses import astuple
from itertools import islice
from pathlib import Path
from typing import Any

from bankllm.errors import ServerError
from bankllm.loadtest.load import LOAD_DRIVERS, Load, LoadDriver, LoadResult
from bankllm.util import processes


def run_locust(load: Load, folder: Path) -> LoadResult:
    """Send the mix with `load.users` users that start together. Its files are left in `folder`.

    The tokens are passed in the environment, so that no file contains them. Raises `ServerError` if Locust sent no
    request. If Locust ended early, its rows are kept and the load is invalid.
    """
    result_file, log = folder / "locust.json", folder / "locust.log"
    result_file.unlink(missing_ok=True)
    calls = [(kind, body, question and astuple(question)) for kind, body, question in islice(load.calls(), load.total)]
    plan = {name: getattr(load, name) for name in ("warm_up", "wait_s", "timeout_s", "seed")}
    plan |= {"calls": calls, "result": result_file.name}
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    users, script = str(load.users), str(Path(__file__).parents[1] / "locustfile.py")
    command = [sys.executable, "-m", "locust", "-f", script, "--headless", "--host", load.url, "-u", users, "-r", users]
    command += ["--only-summary", "--exit-code-on-error", "0"]
    environment = {"BANKLLM_LOAD_PLAN": "plan.json", "BANKLLM_LOAD_TOKENS": json.dumps(dict(load.tokens))}
    child = processes.run(command, log, load.max_duration_s(), environment, signal.SIGTERM)
    empty: dict[str, Any] = {"rows": [], "cpu_share": None}
    found = json.loads(result_file.read_text(encoding="utf-8")) if result_file.exists() else empty
    sent = len(found["rows"])
    if not sent and not child.interrupted:
        raise ServerError(
            f"Locust sent no request (exit code {child.returncode}). Check that the server answers. The end of "
            f"Locust's log:\n{processes.tail(log)}"
        )
    ended_early = f"Locust ended after {sent} of {load.total} requests"
    return LoadResult(
        load,
        found["rows"],
        generator_cpu_share=found["cpu_share"],
        limits=("no first_byte_s",),
        invalid_because=None if sent == load.total else ended_early,
        interrupted=child.interrupted,
    )


LOAD_DRIVERS.add("locust", LoadDriver(run_locust, "closed", ("mix", "chat", "health")))
