"""The commands about pipelines."""

from typing import Annotated, Any

import typer

from pipeline_runs.cli import parsing, screens
from pipeline_runs.cli.options import FLAG, AsJson, PipelineName
from pipeline_runs.cli.session import Session, session_of
from pipeline_runs.models import Mode, Pipeline, PipelineChanges

commands = typer.Typer(no_args_is_help=True, help="Look at pipelines, make and change them.")

Workflow = Annotated[
    str | None, typer.Option("--workflow", metavar="NAME", help="Conductor's name of what it does.")
]
WorkflowVersion = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Its version; else always the latest.")
]
MaxActiveRuns = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="How many runs may be active; 0: any number.")
]
RunTimeout = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="How long its runs may take; 0: the service's default."),
]


@commands.command("list")
def list_pipelines(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List all pipelines, newest first."""
    session = session_of(context)
    found = list(session.client.list_pipelines(page_size=200))
    if as_json:
        session.print_json({"items": [one.model_dump(mode="json") for one in found]})
    elif found:
        session.out.print(screens.pipelines_table(found))
    else:
        session.aside.print("There are no pipelines yet. To make one:")
        session.aside.print(
            screens.steps_view(["pipeline-run pipelines create NAME --workflow WORKFLOW"])
        )


@commands.command("get")
def get(context: typer.Context, *, pipeline: PipelineName, as_json: AsJson = False) -> None:
    """Show one pipeline."""
    session = session_of(context)
    _show(session, session.pipeline_named(pipeline), as_json=as_json)


@commands.command("create")
def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called.")],
    workflow: Annotated[
        str, typer.Option("--workflow", metavar="NAME", help="Conductor's name of what it does.")
    ],
    mode: Annotated[
        Mode,
        typer.Option(case_sensitive=False, help="BATCH: a job that is watched. REALTIME: at once."),
    ] = Mode.BATCH,
    workflow_version: WorkflowVersion = None,
    max_active_runs: MaxActiveRuns = None,
    run_timeout: RunTimeout = None,
    disabled: Annotated[
        bool,
        typer.Option("--disabled", metavar=FLAG, help="No runs can be made until it is enabled."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a pipeline."""
    session = session_of(context)
    made = session.client.create_pipeline(
        name=name,
        mode=mode,
        workflow_name=workflow,
        workflow_version=workflow_version,
        max_active_runs=max_active_runs or None,
        timeout_seconds=_timeout(run_timeout),
        enabled=not disabled,
    )
    _show(session, made, as_json=as_json)


@commands.command("change")
def change(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Another name.")] = None,
    workflow: Workflow = None,
    workflow_version: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Its version; 0: always the latest.")
    ] = None,
    max_active_runs: MaxActiveRuns = None,
    run_timeout: RunTimeout = None,
    as_json: AsJson = False,
) -> None:
    """Change what is named here; runs that exist keep what they were made with."""
    wanted: dict[str, Any] = {}
    if name is not None:
        wanted["name"] = name
    if workflow is not None:
        wanted["workflow_name"] = workflow
    if workflow_version is not None:
        wanted["workflow_version"] = workflow_version or None
    if max_active_runs is not None:
        wanted["max_active_runs"] = max_active_runs or None
    if run_timeout is not None:
        wanted["timeout_seconds"] = _timeout(run_timeout)
    if not wanted:
        raise typer.BadParameter("Say what to change: --help lists what can be")
    _change(context, pipeline, PipelineChanges.model_validate(wanted), as_json=as_json)


@commands.command("enable")
def enable(context: typer.Context, *, pipeline: PipelineName, as_json: AsJson = False) -> None:
    """Let runs of a pipeline be made again."""
    _change(context, pipeline, PipelineChanges(enabled=True), as_json=as_json)


@commands.command("disable")
def disable(
    context: typer.Context,
    *,
    pipeline: PipelineName,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Told to everybody who tries.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let no new runs of a pipeline be made; those that exist go on."""
    changes = PipelineChanges(enabled=False, disabled_reason=reason)
    _change(context, pipeline, changes, as_json=as_json)


def _change(
    context: typer.Context, pipeline: str, changes: PipelineChanges, *, as_json: bool
) -> None:
    session = session_of(context)
    changed = session.client.change_pipeline(session.pipeline_id(pipeline), changes)
    _show(session, changed, as_json=as_json)


def _show(session: Session, pipeline: Pipeline, *, as_json: bool) -> None:
    if as_json:
        session.print_json(pipeline)
    else:
        session.out.print(screens.pipeline_view(pipeline, session.outside.now()))


def _timeout(text: str | None) -> int | None:
    return round(parsing.duration(text).total_seconds()) or None if text else None
