"""The command `bankllm loadtest`: it parses, and prints what `report`, `quick` or Locust's own page say."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bankllm.errors import UsageError
from bankllm.loadtest.load import Arrivals, Driver, Mix
from bankllm.settings import get_settings, project_root


def loadtest(
    output: Annotated[
        Path | None,
        typer.Argument(help="File for the per-request rows: .csv, .csv.gz, .parquet.", show_default="outputs/loads/…"),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="A running server on loopback.", show_default="starts its own")
    ] = None,
    driver: Annotated[Driver, typer.Option(help="ab, locust or open-loop.")] = "ab",
    users: Annotated[int, typer.Option(help="Closed loops: how many at once.")] = 100,
    requests: Annotated[int, typer.Option(help="Measured requests.")] = 1000,
    rate: Annotated[float | None, typer.Option(help="Open loop: requests a second that become due.")] = None,
    arrivals: Annotated[Arrivals, typer.Option(help="Open loop: poisson or constant.")] = "poisson",
    duration: Annotated[float | None, typer.Option(help="Open loop: seconds, instead of --requests.")] = None,
    warm_up: Annotated[int, typer.Option(help="Requests before the measured ones; no figure counts them.")] = 0,
    kind: Annotated[
        Mix | None,
        typer.Option(
            help="chat, health or mix (one health check to two chats).", show_default="locust: mix, else chat"
        ),
    ] = None,
    texts: Annotated[str, typer.Option(help="Whose test texts are asked: teller77, banking77 or auto.")] = "teller77",
    repeat_one: Annotated[bool, typer.Option("--repeat-one", help="Ask one text again and again.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds after which a request counts as failed.")] = 30,
    seed: Annotated[int, typer.Option(help="Of arrivals, texts and customers.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Of the server that is started.")] = 1,
    own_host: Annotated[
        bool, typer.Option("--i-own-this-host", help="Load a server beyond this machine, which is yours.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only see that it lives, in ten seconds.")] = False,
    web: Annotated[bool, typer.Option("--web", help="Locust's own page, until Ctrl-C; keeps no rows.")] = False,
) -> None:
    """Drive a server and keep one row a request; prints throughput, percentiles and errors.

    Ctrl-C keeps the rows so far (exit code 130). An invalid load keeps its rows too (exit code 1).
    """
    settings = get_settings()
    if quick:
        from bankllm.loadtest.quick import smoke_test

        lines = smoke_test(url=url, settings=settings, allow_remote=own_host)
    elif web:
        from bankllm.loadtest.web import serve_page

        lines = serve_page(url=url, settings=settings, workers=workers, allow_remote=own_host)
    else:
        from bankllm.loadtest.report import drive

        lines = drive(
            output or _output(driver),
            url=url,
            driver=driver,
            settings=settings,
            workers=workers,
            texts=texts,
            repeat_one=repeat_one,
            users=users,
            requests=requests if duration is None else _requests(duration, rate),
            rate=rate,
            arrivals=arrivals,
            warm_up=warm_up,
            kind=kind,
            timeout_s=timeout,
            seed=seed,
            allow_remote=own_host,
        )
    for line in lines:
        typer.echo(line)


def _output(driver: str) -> Path:
    return project_root() / get_settings().output / "loads" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{driver}.csv.gz"


def _requests(duration: float, rate: float | None) -> int:
    if rate is None or not 0 < duration * rate < 1e8:
        raise UsageError(f"--duration needs an open loop's --rate and both above 0; found {duration:g} s at {rate}.")
    return max(1, round(duration * rate))
