"""The command `bankllm loadtest`: parse the options, and let `report` run the load and print its summary."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from bankllm.errors import UsageError
from bankllm.loadtest.load import LOAD_DRIVERS, Mix
from bankllm.settings import get_settings, project_root


def loadtest(
    output: Annotated[
        Path | None,
        typer.Argument(help="File for the per-request rows: .csv or .csv.gz.", show_default="outputs/loads/…"),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="URL of a running server on loopback.", show_default="starts a server")
    ] = None,
    driver: Annotated[
        str,
        typer.Option(help="Load driver; an unknown name lists all of them.", autocompletion=lambda: list(LOAD_DRIVERS)),
    ] = "ab",
    users: Annotated[int, typer.Option(help="Closed loop: number of concurrent users.")] = 100,
    requests: Annotated[int, typer.Option(help="Number of measured requests.")] = 1000,
    rate: Annotated[float | None, typer.Option(help="Open loop: offered rate in requests per second.")] = None,
    duration: Annotated[float | None, typer.Option(help="Open loop: duration in s, instead of --requests.")] = None,
    warm_up: Annotated[int, typer.Option(help="Warm-up requests before the measured ones; not in the results.")] = 0,
    kind: Annotated[
        Mix | None,
        typer.Option(
            help="Requests to send: chat, stream, health or mix (one third health checks).",
            show_default="that of the driver",
        ),
    ] = None,
    texts: Annotated[
        str, typer.Option(help="Data set whose test texts are sent: teller77, banking77 or auto.")
    ] = "teller77",
    questions: Annotated[
        bool, typer.Option("--questions", help="Mostly ask questions whose right answer the ledger gives, and judge.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Timeout per request in s; a later reply counts as failed.")] = 30,
    seed: Annotated[int, typer.Option(help="Random seed for arrivals, texts and customers.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes of the server that is started.")] = 1,
    own_host: Annotated[
        bool, typer.Option("--i-own-this-host", help="Allow a server on another machine; confirms that it is yours.")
    ] = False,
) -> None:
    """Send requests to a server, keep one row per request, and print throughput, percentiles and errors.

    Ctrl-C keeps the rows collected so far (exit code 130). An invalid load also keeps its rows (exit code 1).
    """
    from bankllm.loadtest.report import drive

    settings = get_settings()
    if duration is not None:
        if rate is None or not 0 < duration * rate < 1e8:
            raise UsageError(
                f"--duration needs --rate, and both must be above 0; found --duration {duration:g} and --rate {rate}. "
                "Use --driver open-loop with both options, or --requests."
            )
        requests = max(1, round(duration * rate))
    default = f"loads/{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{driver}.csv.gz"
    asked: dict[str, Any] = {"users": users, "requests": requests, "rate": rate, "kind": kind}
    asked |= {"warm_up": warm_up, "timeout_s": timeout, "seed": seed, "allow_remote": own_host}
    asked |= {"url": url, "workers": workers, "texts": texts, "questions": questions}
    for line in drive(output or project_root() / settings.output / default, driver, settings, **asked):
        typer.echo(line)
