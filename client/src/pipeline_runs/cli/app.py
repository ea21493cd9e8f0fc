"""`pipeline-run`: the commands, and how what goes wrong is told."""

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipeline_runs import errors
from pipeline_runs.calls import is_loopback
from pipeline_runs.cli import advice, doctor, exit_codes, pipelines, runs
from pipeline_runs.cli.exit_codes import ExitCode
from pipeline_runs.cli.options import FLAG, AsJson
from pipeline_runs.cli.screens import foreign, steps_view
from pipeline_runs.cli.session import Outside, Session, session_of

WRONG_USAGE = 2
"""Typer's own exit code, which is CANCELLED here."""


class Commands(TyperGroup):
    """The root of the commands: what they raise ends in words and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs a command line and exits."""
        try:
            return super().main(*args, **kwargs)
        except SystemExit as ended:
            if ended.code == WRONG_USAGE and not isinstance(ended.code, ExitCode):
                raise SystemExit(ExitCode.USAGE) from None
            raise

    def invoke(self, ctx: Any) -> Any:
        """Runs a command that was understood."""
        try:
            return super().invoke(ctx)
        except errors.PipelineRunsError as error:
            session = ctx.find_object(Session)
            if session is None:
                raise
            _tell(session, error)
            raise typer.Exit(exit_codes.of_error(error)) from error


app = typer.Typer(
    cls=Commands,
    name="pipeline-run",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=exit_codes.TOLD,
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    """At once, before anything else of the command line is looked at."""
    if wanted:
        try:
            told = version("pipeline-runs-client")
        except PackageNotFoundError:  # From a source folder on the path.
            told = "unknown"
        typer.echo(f"pipeline-run {told}")
        raise typer.Exit


@app.callback()
def begin(
    context: typer.Context,
    *,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A profile of the config file; or PIPELINE_RUN_PROFILE."),
    ] = None,
    api_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The API's address; or PIPELINE_RUN_API_URL."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="What opens it; better in PIPELINE_RUN_TOKEN."),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Sent along, to find the calls in the service's logs."),
    ] = None,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar=FLAG,
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Run pipelines, and see what becomes of them.

    Where the API is comes from --api-url, --profile, PIPELINE_RUN_API_URL, the default profile of
    ~/.config/pipeline-run/config.toml, or the local stack of the clone that this folder is in.
    """
    del show_version
    outside = context.find_object(Outside) or Outside()
    context.obj = Session(
        outside=outside, profile=profile, api_url=api_url, token=token, request_id=request_id
    )


app.command("submit")(runs.submit)
app.command("list")(runs.list_runs)
app.command("get")(runs.get)
app.command("watch")(runs.watch)
app.command("events")(runs.events)
app.command("cancel")(runs.cancel)
app.command("retry")(runs.retry)
app.command("outputs")(runs.outputs)
app.add_typer(pipelines.commands, name="pipelines")


@app.command("doctor")
def examine(context: typer.Context, *, as_json: AsJson = False) -> None:
    """See what is reachable, what isn't, why, and what to do."""
    session = session_of(context)
    found = []
    for finding in doctor.findings(session):
        found.append(finding)
        if not as_json:
            session.out.print(doctor.view(finding))
    if as_json:
        session.print_json(doctor.as_json(found))
    if any(one.verdict is doctor.Verdict.BROKEN for one in found):
        raise typer.Exit(ExitCode.NO_API)


def _tell(session: Session, error: errors.PipelineRunsError) -> None:
    """What happened, and what to do."""
    told = foreign("error: ", style="bold red")
    told.append_text(foreign(str(error), style="default"))
    session.aside.print(told, soft_wrap=True)
    for fault in error.faults if isinstance(error, errors.RequestInvalid) else ():
        session.aside.print(
            foreign(f"  {fault.pointer or 'body'}: {fault.message}"), soft_wrap=True
        )
    near = _is_near(session)
    for line in advice.sentences(error, near=near):
        session.aside.print(foreign(line), soft_wrap=True)
    if steps := advice.steps(error, near=near):
        session.aside.print(steps_view(steps))
    if isinstance(error, errors.ApiProblem) and error.request_id:
        session.aside.print(foreign(f"request id: {error.request_id}", style="dim"), soft_wrap=True)


def _is_near(session: Session) -> bool:
    try:
        return is_loopback(session.connection.api_url)
    except errors.NotConfigured:
        return False


def main() -> None:
    """The program."""
    app()
