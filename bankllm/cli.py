"""The command `bankllm`: thin wrappers that parse, call a room, and print.

Exit codes: 0 done, 1 the thing asked for failed or does not hold, 2 bad usage.
"""

import os
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from bankllm import __version__
from bankllm.errors import BankLLMError, RunError, UsageError
from bankllm.evidence.commands import claims, latest_run, publish, report, require_verified
from bankllm.loadtest.commands import loadtest
from bankllm.profiles import get_profile
from bankllm.settings import get_settings, parse_assignments, project_root
from bankllm.training.commands import train
from bankllm.vectors.commands import index, memory, search

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A banking assistant from built to proven: train, serve, search, load-test, verify.",
)

OutputOption = Annotated[Path | None, typer.Option(help="Folder for runs.", show_default="outputs/")]
ProfileOption = Annotated[
    str | None, typer.Option(help="smoke, quick or full.", show_default="BANKLLM_PROFILE, else smoke")
]
AdapterOption = Annotated[Path | None, typer.Option(help="Classifier folder.", show_default="the packaged one")]


def main() -> None:
    """Run the command line; every error that is meant ends in one paragraph and its exit code."""
    try:
        app()
    except BankLLMError as error:
        _fail(error, error.exit_code)
    except OSError as error:
        _fail(RunError(f"{error.filename or 'A file'} could not be read or written: {error.strerror}."), 1)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. A run of the notebooks carries on with: bankllm run --resume RUN_ID\n")
        sys.exit(130)


def _fail(error: Exception, code: int) -> None:
    if "--debug" in sys.argv:
        raise error
    width = min(100, os.get_terminal_size().columns if sys.stderr.isatty() else 100)
    message = textwrap.fill(f"Error: {error}", width, break_long_words=False, break_on_hyphens=False)
    sys.stderr.write(message + "\n")
    sys.exit(code)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    """Options that every command takes."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def doctor() -> None:
    """What this machine has, what will be used, and why."""
    from bankllm.doctor import examine

    findings = examine(get_settings())
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        typer.echo(f"{'ok  ' if finding.ok else 'none'}  {finding.what:<{width}}  {finding.said}")
    if any(finding.required and not finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def run(
    profile: ProfileOption = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this notebook, e.g. 03; may be repeated.")] = None,
    output: OutputOption = None,
    resume: Annotated[str | None, typer.Option(help="Carry on with this run id.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="name=value for the notebooks.")
    ] = None,
) -> None:
    """Run the notebooks in order into outputs/<run-id>/ and print where the report is."""
    from bankllm import datasets, pipeline
    from bankllm.evidence.manifest import read_manifest

    runs = _output(output)
    name = read_manifest(runs / resume).profile if resume else profile or get_settings().profile
    typer.echo(f"profile {name}; data: {datasets.load(get_profile(name).dataset).describe()}")
    folder, manifest = pipeline.run(
        name,
        runs,
        only=only or (),
        resume=resume,
        parameters=parse_assignments(parameter or []),
        report=typer.echo,
    )
    failed = [entry for entry in manifest.notebooks if entry.status != "done"]
    typer.echo(f"{sum(entry.seconds for entry in manifest.notebooks):.0f} s in all, in {folder}")
    if failed:
        typer.echo(f"Failed or skipped: {', '.join(entry.name for entry in failed)}.", err=True)
        typer.echo(f"Carry on after mending: bankllm run --resume {folder.name}", err=True)
        raise typer.Exit(1)
    if (folder / "RESULTS.html").exists():
        typer.echo(f"Report: {folder / 'RESULTS.html'}\nCheck every number: bankllm verify {folder}")


@app.command()
def verify(
    run_dir: Annotated[
        Path | None, typer.Argument(help="A run's folder.", show_default="the newest complete run")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Recompute every number of a run from its raw rows; exit 1 if any does not hold."""
    from bankllm.evidence.verification.run_checks import as_json as to_json
    from bankllm.evidence.verification.run_checks import lines
    from bankllm.evidence.verification.verify import verify as check

    verdict = check(run_dir or latest_run())
    typer.echo(to_json(verdict) if as_json else "\n".join(lines(verdict)))
    if not verdict.holds:
        raise typer.Exit(1)


app.command()(report)
app.command()(publish)
app.command()(claims)


@app.command()
def reproduce(
    run_dir: Annotated[Path, typer.Argument(help="The run's folder.")],
    output: OutputOption = None,
) -> None:
    """Run the same notebooks at the same profile here, and judge each record: within tolerance, outside, or neither."""
    from bankllm import pipeline
    from bankllm.evidence.reproduce import reproduce as repeat

    again, judged = repeat(
        require_verified(run_dir),
        lambda profile, only, parameters: pipeline.run(
            profile, _output(output), only=only, parameters=parameters, report=typer.echo
        ),
    )
    for one in judged:
        typer.echo(f"{one.outcome:<14}  {one.id}: {one.why}")
    within, outside = (sum(one.outcome == outcome for one in judged) for outcome in ("within", "outside"))
    typer.echo(f"{within} within, {outside} outside, {len(judged) - within - outside} not comparable, in {again}")
    if outside or not within:
        raise typer.Exit(1)


app.command()(train)


app.add_typer(memory, name="memory")


@app.command()
def benchmark(
    profile: ProfileOption = None,
    output: OutputOption = None,
    resume: Annotated[str | None, typer.Option(help="Carry on with this run id; what is trained stays.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this configuration, e.g. lora_r8; repeatable.")] = None,
) -> None:
    """Train and compare every configuration of the profile (notebook 03, headless) and print the table."""
    from bankllm import pipeline
    from bankllm.evidence.format import format_interval, format_value
    from bankllm.evidence.records import read_records

    name = profile or get_settings().profile
    folder, manifest = pipeline.run(
        name,
        _output(output),
        only=["03"],
        resume=resume,
        parameters={"only": ",".join(only)} if only else {},
        report=typer.echo,
    )
    if failed := [entry for entry in manifest.notebooks if entry.name.startswith("03") and entry.status != "done"]:
        typer.echo(f"Failed: {failed[0].error}", err=True)
        typer.echo(f"Carry on after mending: bankllm benchmark --resume {folder.name}", err=True)
        raise typer.Exit(1)
    for record in (record for record in read_records(folder) if record.notebook.startswith("03")):
        typer.echo(f"{record.title:<45} {format_value(record):>22}  {format_interval(record)}")


@app.command()
def export(
    adapter: Annotated[Path, typer.Argument(help="Classifier folder.")],
    output: Annotated[Path, typer.Argument(help="ONNX file to write.")],
    precision: Annotated[str, typer.Option(help="fp32, or int8.")] = "fp32",
) -> None:
    """Write a classifier as one ONNX graph: backbone, adapter, pooling and head."""
    from bankllm.model.export import export_onnx

    if precision not in ("fp32", "int8"):
        raise UsageError(f"Unknown precision {precision!r}. Expected fp32 or int8.")
    written = export_onnx(adapter, output, precision)  # type: ignore[arg-type]
    typer.echo(f"Written to {written} ({written.stat().st_size / 2**20:.1f} MiB)")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 1,
    store: Annotated[Path | None, typer.Option(help="SQLite file of the vector store.")] = None,
    adapter: AdapterOption = None,
    responder: Annotated[
        str | None,
        typer.Option(help="Who words the replies: template, transformers:MODEL, openai:BASE-URL#MODEL."),
    ] = None,
    log_file: Annotated[Path | None, typer.Option(help="Log here too, e.g. logs/app.log.")] = None,
) -> None:
    """Serve the assistant over HTTP. What is not given here is read from the environment (BANKLLM_…)."""
    from bankllm.serving.server import serve as serve_app

    given = {"store": store, "adapter": adapter, "responder": responder, "log_file": log_file}
    settings = get_settings().model_copy(update={name: value for name, value in given.items() if value})
    serve_app(host, port, settings, workers)


app.command()(loadtest)
app.command()(index)
app.command()(search)


def _output(chosen: Path | None) -> Path:
    return chosen.resolve() if chosen else project_root() / get_settings().output
