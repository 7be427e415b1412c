"""Open Locust's web page for a server, to set the load by hand. No rows are kept."""

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bankllm import datasets
from bankllm.errors import ServerError
from bankllm.loadtest.drivers.locust_driver import LOCUST
from bankllm.loadtest.report import CUSTOMERS, own_server, tokens
from bankllm.loadtest.runner import check_reachable
from bankllm.loadtest.validation import check_address
from bankllm.settings import Settings
from bankllm.util import processes


def serve_page(*, url: str | None, settings: Settings, workers: int = 1, allow_remote: bool = False) -> Iterator[str]:
    """Serve the page on a free loopback port until Locust ends, usually by Ctrl-C. Yields lines to print.

    Without a `url`, a server with `workers` processes is started for it.

    Raises `ServerError` with Locust's output if Locust exits without Ctrl-C, and the errors of `ServerProcess`.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bankllm-web-")))
        if url is not None:
            check_address(url, allow_remote)
            check_reachable(url.rstrip("/"))
        address = url.rstrip("/") if url else stack.enter_context(own_server(folder, workers)).url
        plan = {"messages": list(datasets.load("teller77", settings).test.texts), "customers": CUSTOMERS}
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        environment = {"BANKLLM_LOAD_PLAN": str(folder / "plan.json")}
        environment["BANKLLM_LOAD_TOKENS"] = json.dumps(tokens(settings, CUSTOMERS) or {})
        port = processes.free_port()
        command = [*LOCUST, "--web-host", "127.0.0.1", "--web-port", str(port), "--host", address]
        log = folder / "locust.log"
        with log.open("wb") as file:
            locust = processes.start(command, file, environment)
        stack.callback(processes.stop, locust)
        yield f"Locust's page: http://127.0.0.1:{port} for {address}; stop it with Ctrl-C"
        while locust.poll() is None:
            time.sleep(0.2)
        raise ServerError(
            f"Locust exited with code {locust.returncode} before Ctrl-C. The end of its log:\n{processes.tail(log)}"
        )
