"""The command-line interface `bankllm`.

Commands that belong to one package are defined in its `commands.py` and registered here.

Exit codes: 0 success; 1 the command failed, or verification failed; 2 wrong usage; 130 interrupted by Ctrl-C.
"""

import os
import re
import shlex
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bankllm import __version__, extras
from bankllm.assistant.actions.commands import audit
from bankllm.assistant.commands import chat
from bankllm.errors import BankLLMError, RunError, UsageError
from bankllm.evidence.commands import KeyOption, attest, claims, publish, report, verify
from bankllm.loadtest.commands import loadtest
from bankllm.profiles import get_profile
from bankllm.settings import get_settings, parse_assignments, project_root
from bankllm.training.commands import train
from bankllm.training.language_model.commands import evaluate, export
from bankllm.util.atomic_files import write_text
from bankllm.util.processes import reach_loopback_directly
from bankllm.util.progress import StatusLine
from bankllm.util.terminal import prepare_output
from bankllm.vectors.commands import index, search
from bankllm.vectors.memory_commands import memory

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train, serve and load-test a banking assistant, and verify every reported number from its raw data.",
)

OutputOption = Annotated[
    Path | None, typer.Option(help="Folder that contains the runs.", show_default="BANKLLM_OUTPUT, else outputs/")
]
ProfileOption = Annotated[
    str | None, typer.Option(help="Size of the run: smoke, quick or full.", show_default="BANKLLM_PROFILE, else smoke")
]


def main() -> None:
    """Run the command line. A `BankLLMError` or `OSError` is printed as one paragraph, without a traceback."""
    prepare_output()
    reach_loopback_directly()
    sys.argv[1:] = [re.sub(r"^(--[\w-]+=)~(?=/|$)", _in_home, argument) for argument in sys.argv[1:]]
    try:
        app()
    except BankLLMError as error:
        _fail(error, error.exit_code)
    except ModuleNotFoundError as error:
        command = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
        found = extras.explained(error, command)
        if found is error:
            raise
        _fail(found, UsageError.exit_code)
    except OSError as error:
        _fail(RunError(f"{error.filename or 'A file'} could not be read or written: {error.strerror}."), 1)


def _fail(error: Exception, code: int) -> None:
    if "--debug" in sys.argv:
        raise error
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    print(textwrap.fill(f"Error: {error}", width, break_long_words=False, break_on_hyphens=False), file=sys.stderr)
    sys.exit(code)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Options that apply to every command."""


@app.command()
def version() -> None:
    """Print the version of bankllm."""
    typer.echo(__version__)


@app.command()
def doctor() -> None:
    """Check the hardware, data, models, tools and settings on this machine, and show which ones will be used."""
    from bankllm.doctor import examine

    checks = list(examine(get_settings()))
    width = max(len(check.name) for check in checks)
    for check in checks:
        typer.echo(f"{'ok  ' if check.ok else 'none'}  {check.name:<{width}}  {check.detail}")
    if any(check.required and not check.ok for check in checks):
        raise typer.Exit(1)


@app.command()
def run(
    profile: ProfileOption = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Run only this notebook, e.g. 03. Repeat the option to run several.")
    ] = None,
    output: OutputOption = None,
    resume: Annotated[
        str | None, typer.Option(help="Continue the run with this id. Finished notebooks are kept.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="Notebook parameter as name=value. Repeat the option to set several."),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of this machine in USD an hour, for the price of chats.")
    ] = None,
) -> None:
    """Run the notebooks in order, write the results to outputs/<run-id>/, and print the path of the report."""
    from bankllm import datasets
    from bankllm.evidence.manifest import read_manifest

    runs = _output_folder(output)
    name = read_manifest(runs / resume).profile if resume else profile or get_settings().profile
    typer.echo(f"profile {name}; data: {datasets.load(get_profile(name).dataset).describe()}")
    parameter = (parameter or []) + ([] if price_per_hour is None else [f"price_per_hour={price_per_hour}"])
    parameters = parse_assignments(parameter)
    again = _command("run", only=only, output=output, parameter=parameter)
    folder = _run_notebooks(again, name, runs, only=only or (), resume=resume, parameters=parameters)
    if (folder / "RESULTS.html").exists():
        typer.echo(f"Report: {folder / 'RESULTS.html'}\nCheck every number: {_command('verify')} {folder}")
    typer.echo(f"Chat with the assistant: {_command('serve')}, then open http://127.0.0.1:8000")


for run_command in (verify, attest, report, publish, claims):
    app.command()(run_command)


@app.command()
def reproduce(
    run_dir: Annotated[Path, typer.Argument(help="Run folder to repeat.")],
    output: OutputOption = None,
    key: KeyOption = None,
) -> None:
    """Repeat a run on this machine with the same notebooks and profile, and compare the records of both runs.

    Each record is within the tolerance, outside it, or not comparable. The results are a statement, which --key signs
    and puts beside the run.
    """
    from bankllm.evidence.reproduce import repetition_of, reproduction_of
    from bankllm.evidence.statements import statement_about
    from bankllm.evidence.verification.verify import require_verified

    if key:
        from bankllm.evidence.attestation.signing import read_private_key

        read_private_key(key)  # a wrong key fails here, before the notebooks start
    how = repetition_of(require_verified(run_dir))
    repeated = _run_notebooks(_command("run", only=how["only"], output=output), output=_output_folder(output), **how)
    reproduction = reproduction_of(run_dir, repeated)
    for record in reproduction.records:
        typer.echo(f"{record.outcome:<14}  {record.id}: {record.why}")
    count = Counter(reproduction.verdict)
    summary = ", ".join(f"{count[outcome]} {outcome}" for outcome in ("within", "outside", "not comparable"))
    typer.echo(f"{summary}. Run folder: {repeated}")
    statement = repeated.with_name(f"{repeated.name}.reproduction.json")
    write_text(statement, statement_about(run_dir, reproduction))
    if key:
        attest(run_dir, key, statement=statement)
    else:
        typer.echo(f"Sign it: {_command('attest', statement=statement, key='FILE')} {run_dir}")
    if count["outside"] or not count["within"]:
        raise typer.Exit(1)


app.command()(train)
app.command()(evaluate)
app.add_typer(memory, name="memory")


@app.command()
def benchmark(
    profile: ProfileOption = None,
    output: OutputOption = None,
    resume: Annotated[
        str | None, typer.Option(help="Continue the run with this id. Finished trainings are kept.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Train only this configuration, e.g. lora_r8. Repeat the option to train several."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster, whose nodes train; all of them must have access to the output."),
    ] = None,
) -> None:
    """Train and compare every configuration of the profile (notebook 03 without a browser), and print the table."""
    from bankllm.evidence.format import format_interval, format_value
    from bankllm.evidence.records import read_records
    from bankllm.training.sweep import plan

    name = profile or get_settings().profile
    plan(get_profile(name), only or ())  # an unknown name fails here, before the notebook starts
    parameters = {"only": ",".join(only)} if only else {}
    if ray:
        from bankllm.training.ray_sweep import connect_ray

        with connect_ray(ray):  # a wrong address fails here, too
            parameters["ray"] = ray
    again = _command("benchmark", only=only, output=output, ray=ray)
    folder = _run_notebooks(again, name, _output_folder(output), only=["03"], resume=resume, parameters=parameters)
    for record in (record for record in read_records(folder) if record.notebook.startswith("03")):
        typer.echo(f"{record.title:<45} {format_value(record):>22}  {format_interval(record)}")


app.command()(export)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Number of server processes.")] = 1,
    store: Annotated[
        Path | None,
        typer.Option(help="SQLite file of the vector store.", show_default="BANKLLM_STORE, else bankllm-memory.sqlite"),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(help="Folder of the trained classifier.", show_default="BANKLLM_ADAPTER, else packaged"),
    ] = None,
    responder: Annotated[
        str | None,
        typer.Option(
            help="What words the replies: template, model, openai:URL#MODEL or your own.",
            show_default="BANKLLM_RESPONDER, else template",
        ),
    ] = None,
    log_file: Annotated[Path | None, typer.Option(help="Also write the log to this file, e.g. logs/app.log.")] = None,
    mcp: Annotated[bool, typer.Option("--mcp", help="Offer the assistant's tools to MCP clients at /mcp.")] = False,
) -> None:
    """Serve the assistant over HTTP. Environment variables (BANKLLM_…) hold all other settings."""
    from bankllm.serving.server import serve as serve_app

    given = {"store": store, "adapter": adapter, "responder": responder, "log_file": log_file, "mcp": mcp}
    settings = get_settings().model_copy(update={name: value for name, value in given.items() if value})
    serve_app(host, port, settings, workers)


for command in (chat, loadtest, audit, index, search):
    app.command()(command)


def _run_notebooks(again: str, profile: str, output: Path, *, only: Sequence[str], **options: Any) -> Path:
    """Call `pipeline.run` with a status line and return the run's folder.

    Ctrl-C or a failed notebook ends the command; `again` is the command that continues the run.
    """
    import papermill  # noqa: F401  # a missing extra fails here,

    from bankllm import pipeline
    from bankllm.model import base_models

    chosen = {notebook.name for notebook in pipeline.select(only)}
    if any(name.startswith("03") for name in chosen):
        base_models.resolve("smollm2")  # and then a missing model, before the notebooks start
    try:
        with StatusLine(sys.stdout) as status:
            options |= {"report": status.line, "watch": status.show}
            folder, manifest = pipeline.run(profile, output, only=only, **options)
    except pipeline.RunInterrupted as interrupted:
        typer.echo(f"\n{interrupted} Continue with: {again} --resume {interrupted.folder.name}", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"Total time: {sum(entry.seconds for entry in manifest.notebooks) / 60:.1f} min. Run folder: {folder}")
    missing = [entry for entry in manifest.notebooks if entry.name in chosen and entry.status != "done"]
    if missing:
        typer.echo("\n".join(f"{entry.name} {entry.status}: {entry.error}" for entry in missing), err=True)
        typer.echo(f"Fix the cause, then continue with: {again} --resume {folder.name}", err=True)
        raise typer.Exit(1)
    return folder


def _command(name: str, **options: Any) -> str:
    """A command as the user can type it, also if no environment is activated."""
    program = ["bankllm"] if shutil.which("bankllm") else [os.path.relpath(sys.executable), "-m", "bankllm"]
    given = {option: value if isinstance(value, list) else [value] for option, value in options.items() if value}
    return shlex.join([*program, name, *(f"--{option}={value}" for option in given for value in given[option])])


def _in_home(option: re.Match[str]) -> str:
    """`--store=~/x`: a shell replaces `~` only at the beginning of a word."""
    return f"{option[1]}{Path('~').expanduser()}"


def _output_folder(chosen: Path | None) -> Path:
    return chosen.absolute() if chosen else project_root() / get_settings().output
