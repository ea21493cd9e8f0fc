"""The commands about runs."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Self
from uuid import uuid4

import typer

from pipeline_runs.cli import exit_codes, parsing, screens, transfers
from pipeline_runs.cli.exit_codes import ExitCode
from pipeline_runs.cli.live import watched
from pipeline_runs.cli.options import FLAG, AsJson, IdempotencyKey, RunId, Wait, WaitTimeout
from pipeline_runs.cli.session import Session, session_of
from pipeline_runs.errors import SubmissionFailed
from pipeline_runs.models import PipelineRun, Status


@dataclass(frozen=True, kw_only=True)
class Places:
    """The prefixes of a run."""

    input: str
    output: str
    report: str | None

    @classmethod
    def of(
        cls,
        *,
        input_prefix: str | None,
        output_prefix: str | None,
        report_prefix: str | None,
        uploads: bool,
        work: str,
    ) -> Self:
        """What is said; of a run whose input is uploaded, the rest lies beside that.

        Args:
            input_prefix: as it was said; so are the other two.
            output_prefix: None, and nothing was said of it.
            report_prefix: the same.
            uploads: whether its input is uploaded.
            work: what places begin with that nobody says, with a slash at its end.

        Raises:
            typer.BadParameter: one is missing, and nothing is uploaded.
        """
        if not uploads and not (input_prefix and output_prefix):
            raise typer.BadParameter(
                "Say where the run reads and writes, with --input-prefix and --output-prefix,"
                " or upload files with --input FOLDER"
            )
        if output_prefix is None and report_prefix is None:
            report_prefix = f"{work}report/"
        return cls(
            input=input_prefix or f"{work}input/",
            output=output_prefix or f"{work}output/",
            report=report_prefix,
        )


def submit(
    context: typer.Context,
    *,
    pipeline: Annotated[
        str, typer.Option("--pipeline", "-p", metavar="PIPELINE", help="Its id, or its name.")
    ],
    input_folder: Annotated[
        Path | None,
        typer.Option(
            "--input", "-i", metavar="FOLDER", help="Upload this folder or file first, and read it."
        ),
    ] = None,
    input_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="What the run reads: s3://bucket/key, or relative to the service's bucket. "
            "With --input: where to upload to.",
        ),
    ] = None,
    output_prefix: Annotated[
        str | None,
        typer.Option(metavar="PREFIX", help="Where it writes. With --input it may be left out."),
    ] = None,
    report_prefix: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Where it writes a report, if it should.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="For the pipeline; a value that is JSON is sent as such. Can be repeated.",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="To find the run again. Can be repeated."),
    ] = None,
    run_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="How long the run may take, from 1m on: then it is ended."
        ),
    ] = None,
    wait: Wait = False,
    timeout: WaitTimeout = None,
    idempotency_key: IdempotencyKey = None,
    as_json: AsJson = False,
) -> None:
    """Start a run; with --wait, stay until its end."""
    session = session_of(context)
    parameters = parsing.parameters(parameter or ())
    tags = parsing.tags(tag or ())
    run_timeout_seconds = _seconds(run_timeout)
    patience = _seconds(timeout)
    places = Places.of(
        input_prefix=input_prefix,
        output_prefix=output_prefix,
        report_prefix=report_prefix,
        uploads=input_folder is not None,
        work=_work(session, idempotency_key),
    )
    pipeline_id = session.pipeline_id(pipeline)
    read = places.input
    if input_folder is not None:
        read = transfers.upload(session, input_folder, read)
    try:
        run = session.client.create_run(
            pipeline_id=pipeline_id,
            input_path_prefix=read,
            output_path_prefix=places.output,
            report_path_prefix=places.report,
            parameters=parameters or None,
            tags=tags or None,
            timeout_seconds=None if run_timeout_seconds is None else round(run_timeout_seconds),
            idempotency_key=idempotency_key,
        )
    except SubmissionFailed as error:
        run = session.client.get_run(error.run_id)
    _follow(session, run, wait=wait, timeout_seconds=patience, as_json=as_json)


def list_runs(
    context: typer.Context,
    *,
    status: Annotated[
        Status | None, typer.Option(case_sensitive=False, help="Only runs that are so.")
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", "-p", metavar="PIPELINE", help="Only its runs: id or name."),
    ] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE", help="Only runs with this tag.")
    ] = None,
    created_after: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="2026-11-24T12:00:00Z, 2026-11-24, or 2h for 2 h ago."),
    ] = None,
    created_before: Annotated[str | None, typer.Option(metavar="WHEN", help="The same.")] = None,
    job: Annotated[
        str | None, typer.Option(metavar="ID", help="Only the run of this Workbench job.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, help="At most so many, the newest; 0: all.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    session = session_of(context)
    now = session.outside.now()
    found = session.client.list_runs(
        status=status,
        pipeline_id=session.pipeline_id(pipeline) if pipeline else None,
        tag=parsing.pair(tag) if tag else None,
        created_after=_moment(created_after, now),
        created_before=_moment(created_before, now),
        workbench_job_id=job,
        page_size=min(limit + 1, 200) if limit else 200,
    )
    runs: list[PipelineRun] = []
    more = False
    for run in found:
        if limit and len(runs) == limit:
            more = True
            break
        runs.append(run)
    if as_json:
        session.print_json({"items": [run.model_dump(mode="json") for run in runs]})
        return
    if not runs:
        session.aside.print("There are no such runs.")
        return
    names = session.names_of_pipelines({run.pipeline_id for run in runs})
    session.out.print(screens.runs_table(runs, names, now))
    if more:
        session.aside.print(f"There are more than {limit}: --limit 0 lists all.", style="dim")


def get(context: typer.Context, *, run_id: RunId, as_json: AsJson = False) -> None:
    """Show one run as it is now."""
    session = session_of(context)
    _show(session, session.client.get_run(run_id), as_json=as_json)


def watch(
    context: typer.Context,
    *,
    run_id: RunId,
    timeout: WaitTimeout = None,
    as_json: AsJson = False,
) -> None:
    """Stay with a run until its end, and end as it does."""
    session = session_of(context)
    patience = _seconds(timeout)
    run = session.client.get_run(run_id)
    _follow(session, run, wait=True, timeout_seconds=patience, as_json=as_json)


def events(context: typer.Context, *, run_id: RunId, as_json: AsJson = False) -> None:
    """Show every status that a run has entered."""
    session = session_of(context)
    history = session.client.list_run_events(run_id)
    if as_json:
        session.print_json({"items": [event.model_dump(mode="json") for event in history]})
        return
    session.out.print(screens.events_view(history))


def cancel(
    context: typer.Context,
    *,
    run_id: RunId,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Kept with the run, for who looks at it.")
    ] = None,
    wait: Wait = False,
    timeout: WaitTimeout = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a run's end; it is CANCELLED once its job is."""
    session = session_of(context)
    patience = _seconds(timeout)
    run = session.client.cancel_run(run_id, reason=reason)
    if wait:
        _follow(session, run, wait=True, timeout_seconds=patience, as_json=as_json)
        return
    if as_json:
        session.print_json(run)
    elif run.has_ended:
        session.out.print(f"Run {run.id} is {run.status}.")
    else:
        session.out.print(
            f"Run {run.id} is being cancelled: it is {run.status} until its job ends."
        )
        session.aside.print(screens.steps_view([f"pipeline-run watch {run.id}"]))


def retry(
    context: typer.Context,
    *,
    run_id: RunId,
    wait: Wait = False,
    timeout: WaitTimeout = None,
    idempotency_key: IdempotencyKey = None,
    as_json: AsJson = False,
) -> None:
    """Start a new run with what an ended one was asked for."""
    session = session_of(context)
    patience = _seconds(timeout)
    try:
        run = session.client.retry_run(run_id, idempotency_key=idempotency_key)
    except SubmissionFailed as error:
        run = session.client.get_run(error.run_id)
    _follow(session, run, wait=wait, timeout_seconds=patience, as_json=as_json)


def outputs(
    context: typer.Context,
    *,
    run_id: RunId,
    report: Annotated[
        bool,
        typer.Option("--report", metavar=FLAG, help="The run's report in place of its outputs."),
    ] = False,
    download: Annotated[
        Path | None,
        typer.Option("--download", "-d", metavar="DIR", help="Save them below this folder."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", metavar=FLAG, help="Replace files that are there already."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what a run has written, or download it."""
    session = session_of(context)
    listing = session.client.list_run_report if report else session.client.list_run_outputs
    if download is not None:
        found = listing(run_id, page_size=transfers.DOWNLOAD_PAGE_SIZE)
        whole = transfers.download(session, found, download, overwrite=overwrite, as_json=as_json)
        if not whole:
            raise typer.Exit(ExitCode.FILES)
        return
    objects = list(listing(run_id, page_size=200))
    if as_json:
        session.print_json({"items": [one.model_dump(mode="json") for one in objects]})
    elif objects:
        session.out.print(screens.objects_table(objects))
        size = screens.size_text(sum(one.size_bytes for one in objects))
        count = screens.count_text(len(objects), "object", "objects")
        session.aside.print(f"{count}, {size}; --download DIR saves them.", style="dim")
    else:
        session.aside.print(f"Run {run_id} has written nothing there yet.")


# -- how ------------------------------------------------------------------------------------------


def _follow(
    session: Session,
    run: PipelineRun,
    *,
    wait: bool,
    timeout_seconds: float | None,
    as_json: bool,
) -> None:
    """Shows a run; once it has ended, or with WAIT after that, ends as it does."""
    if wait:
        try:
            if not run.has_ended:
                session.aside.print(f"Run {run.id}")
                run = watched(session, run, timeout_seconds=timeout_seconds)
        except KeyboardInterrupt:
            session.aside.print(f"\nRun {run.id} goes on. To see it again:")
            session.aside.print(screens.steps_view(screens.next_steps(run)))
            raise
    _show(session, run, as_json=as_json)
    if run.has_ended:
        raise typer.Exit(exit_codes.of_run(run))


def _show(session: Session, run: PipelineRun, *, as_json: bool) -> None:
    if as_json:
        session.print_json(run)
        return
    names = session.names_of_pipelines({run.pipeline_id})
    name = names.get(run.pipeline_id, f"pipeline {run.pipeline_id}")
    session.out.print(screens.run_view(run, name, session.outside.now()))
    session.aside.print(screens.steps_view(screens.next_steps(run)))


def _work(session: Session, key: str | None) -> str:
    """The same key leads to the same places, so that the request is the same too."""
    mark = hashlib.sha256(key.encode()).hexdigest()[:16] if key else uuid4().hex[:16]
    storage = session.connection.storage
    prefix = storage.prefix.strip("/") if storage else ""
    return f"{prefix}/pipeline-run/{mark}/".lstrip("/")


def _seconds(text: str | None) -> float | None:
    return parsing.duration(text).total_seconds() if text else None


def _moment(text: str | None, now: datetime) -> datetime | None:
    return parsing.moment(text, now) if text else None
