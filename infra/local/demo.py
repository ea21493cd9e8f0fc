"""The demo: a REALTIME run and a BATCH run over real files, by the commands that a user has.

It shows each command of `pipeline-run` before it runs it, so that they can be copied.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from rich.console import Console

from infra.local.environments import ENVIRONMENTS
from infra.local.files import read_json
from infra.local.trouble import StackTrouble
from pipeline_runs import Client, Mode, PipelineRun, PipelineRunsError, Status
from pipeline_runs.errors import StateConflict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.layout import Layout

COMMAND: Final = ENVIRONMENTS / "stack" / "bin" / "pipeline-run"
PATIENCE: Final = "5m"
TAG: Final = "demo"
ENDS: Final = {0, 1, 2, 3}
"""COMPLETED, FAILED, CANCELLED, timed out: with any other code there is no run to look at."""
INTERRUPTED: Final = 130
PIPELINES: Final = {
    Mode.REALTIME: ("demo-realtime", "realtime_pipeline_workflow"),
    Mode.BATCH: ("demo-batch", "batch_pipeline_workflow"),
}


@dataclass(frozen=True)
class Demo:
    """One demonstration on a stack that is up."""

    stack: Mapping[str, Any]
    """What `stack.json` says."""
    input_folder: Path | None = None
    """The user's own files; None: a small data set that a package ships."""
    console: Console = field(default_factory=Console)

    def run(self) -> bool:
        """Shows everything, step by step; whether the runs COMPLETED and the results are there.

        Raises:
            StackTrouble: a command failed; it has said why.
            PipelineRunsError: the service refuses what the demo asks for.
        """
        mark = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid4().hex[:6]}"
        realtime, batch = (self._pipeline(mode) for mode in PIPELINES)
        read = ("--input-prefix", f"demo/{mark}/input/")
        write = ("--output-prefix", f"demo/{mark}/output/")
        stay = ("--tag", f"{TAG}={mark}", "--wait", "--timeout", PATIENCE)

        self._heading("A REALTIME run: your files are uploaded, and looked at while you wait")
        self._submit("-p", realtime, "--input", str(self._folder()), *read, *write, *stay)
        self._heading("A BATCH run: a job at the Workbench, asked about at the poll interval")
        report = ("--report-prefix", f"demo/{mark}/report/")
        self._submit("-p", batch, *read, *write, *report, *stay)

        runs = list(self._client.list_runs(tag=(TAG, mark)))
        run = runs[0]
        self._heading("What it has written")
        self._call("outputs", str(run.id))
        complete = all(one.status is Status.COMPLETED for one in runs) and self._has_results(run)
        place = self._place_of(f"demo/{mark}/report/report.html")
        self._farewell(run, place, complete=complete)
        return complete

    # -- the steps --------------------------------------------------------------------------------

    def _folder(self) -> Path:
        """The files to process."""
        if self.input_folder is None:
            self.console.print(
                "Palmer Archipelago penguins: 344 birds, by Gorman, Williams and Fraser (2014);"
                " shipped by the package palmerpenguins, data under CC0."
            )
        return self.input_folder or _penguins()

    def _pipeline(self, mode: Mode) -> str:
        """The name of the demo's pipeline of this mode, made on first use."""
        name, workflow = PIPELINES[mode]
        try:
            self._client.create_pipeline(name=name, mode=mode, workflow_name=workflow)
        except StateConflict:
            self._client.find_pipeline(name)  # Somebody has changed it since.
        return name

    def _submit(self, *words: str) -> None:
        """A run that doesn't COMPLETE has a code of its own, and is shown."""
        code = self._call("submit", *words)
        if code not in ENDS:
            raise StackTrouble("the demo can't go on; see above, and make logs")

    def _call(self, *words: str) -> int:
        """Shows a command and runs it; its exit code."""
        self.console.print(f"$ pipeline-run {shlex.join(words)}\n", style="dim", soft_wrap=True)
        sys.stdout.flush()
        return subprocess.run([str(COMMAND), *words], env=self._environment, check=False).returncode

    def _has_results(self, run: PipelineRun) -> bool:
        names = [one.name for one in self._client.list_run_report(run.id)]
        return "report.html" in names and any(self._client.list_run_outputs(run.id))

    def _place_of(self, key: str) -> str:
        """Where a person finds an object: a file of the storage's folder, where that is ours."""
        folder = self.stack.get("storage_path")
        return str(Path(folder) / key) if folder else f"s3://{self.stack['storage_bucket']}/{key}"

    def _farewell(self, run: PipelineRun, report: str, *, complete: bool) -> None:
        self.console.print()
        if complete:
            self.console.print("[bold green]Both runs COMPLETED.[/] The report, for a browser:")
            self.console.print(f"  {report}", soft_wrap=True)
        else:
            self.console.print("[bold red]Not all of it worked:[/] see above, and make logs")
        command = os.path.relpath(COMMAND)
        self.console.print("\nThe stack is still up. To look further:")
        for line in (
            f"{self.stack['api_url']}/docs   in a browser: the API, to read and to try",
            f"{command} --help   all commands; in this clone they need no configuration",
            f"{command} get {run.id}   that run once more",
            "make run INPUT=folder   your own files",
            "make status             what runs where",
            "make logs               what it says",
            "make down               stop it; runs and files are kept",
        ):
            self.console.print(f"  {line}", soft_wrap=True, highlight=False)

    # -- the ways to the stack --------------------------------------------------------------------

    @cached_property
    def _client(self) -> Client:
        return Client(self.stack["api_url"], self.stack["api_token"])

    @property
    def _environment(self) -> dict[str, str]:
        """This stack's, wherever the command is called, and whatever the user has configured."""
        return os.environ | {
            "PIPELINE_RUN_API_URL": self.stack["api_url"],
            "PIPELINE_RUN_TOKEN": self.stack["api_token"],
            "PIPELINE_RUN_STORAGE_BUCKET": self.stack["storage_bucket"],
            "PIPELINE_RUN_STORAGE_ENDPOINT_URL": self.stack["storage_endpoint_url"],
            "PIPELINE_RUN_STORAGE_REGION": self.stack["aws_region"],
            "AWS_ACCESS_KEY_ID": self.stack["storage_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.stack["storage_secret_access_key"],
        }

    def _heading(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/]")


def demonstrate(layout: Layout, input_folder: Path | None) -> int:
    """Runs the demo on the stack that is up.

    Returns:
        The exit code: 0 only when both runs COMPLETED and their results are there.
    """
    try:
        demo = Demo(read_json(layout.stack_file), input_folder)
        return 0 if demo.run() else 1
    except (StackTrouble, PipelineRunsError) as trouble:
        print(f"\nerror: {trouble}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _penguins() -> Path:
    """The folder of the data files in the package; importing it would need pandas."""
    spec = importlib.util.find_spec("palmerpenguins")
    if spec is None or spec.origin is None:
        raise StackTrouble("The package palmerpenguins is missing: run make up again")
    return Path(spec.origin).parent / "data"
