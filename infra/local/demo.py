"""The demo: a BATCH run and a REALTIME run over real files, watched to their end.

It talks to the service as any client does: HTTP to the API, S3 to the user's storage.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import boto3
import httpx
from botocore.config import Config
from rich.console import Console
from rich.json import JSON
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.status import Status
from rich.table import Table

from infra.local.files import read_json
from infra.local.trouble import StackTrouble

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from infra.local.layout import Layout

TERMINAL: Final = {"COMPLETED", "FAILED", "CANCELLED"}
PATIENCE_SECONDS: Final = 300
LOOK_EVERY_SECONDS: Final = 1.0
PIPELINES: Final = {
    "BATCH": ("demo-batch", "batch_pipeline_workflow"),
    "REALTIME": ("demo-realtime", "realtime_pipeline_workflow"),
}
COLOURS: Final = {
    "CREATED": "cyan",
    "SUBMITTED": "blue",
    "RUNNING": "yellow",
    "COMPLETED": "green",
    "FAILED": "red",
    "CANCELLED": "magenta",
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
            StackTrouble: there is no input, or the service refuses what the demo asks for.
        """
        files = self._input_files()
        work = f"demo/{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid4().hex[:6]}"
        self._upload(files, f"{work}/input")
        prefixes = {
            "input_path_prefix": f"{work}/input/",
            "output_path_prefix": f"{work}/output/",
            "report_path_prefix": f"{work}/report/",
        }
        realtime = self._realtime(prefixes)
        batch = self._batch(prefixes)
        self._heading("The run, as the API tells it")
        self.console.print(JSON(json.dumps(batch)), soft_wrap=True)
        written = self._written(f"{work}/output/") | self._written(f"{work}/report/")
        self._show_written(written)
        done = realtime["status"] == batch["status"] == "COMPLETED"
        report = f"{work}/report/report.html"
        complete = done and report in written and any("/output/" in name for name in written)
        self._farewell(batch, self._place_of(report), complete=complete)
        return complete

    # -- the input --------------------------------------------------------------------------------

    def _input_files(self) -> dict[str, Path]:
        """The files to process by their names below the prefix."""
        folder = self.input_folder or _penguins()
        if not folder.is_dir():
            raise StackTrouble(f"There is no folder {folder}: name one with make run INPUT=folder")
        names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        found = {
            name.as_posix(): folder / name
            for name in names
            if not any(part.startswith(".") for part in name.parts)
        }
        if not found:
            raise StackTrouble(f"The folder {folder} has no files in it to process")
        return found

    def _upload(self, files: Mapping[str, Path], prefix: str) -> None:
        self._heading("Input")
        if self.input_folder is None:
            self.console.print(
                "Palmer Archipelago penguins: 344 birds, by Gorman, Williams and Fraser (2014);"
                " shipped by the package palmerpenguins, data under CC0."
            )
        columns = (TextColumn("uploading"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            for name, path in progress.track(files.items(), description="uploading"):
                self._s3.upload_file(str(path), self._bucket, f"{prefix}/{name}")
        size = sum(path.stat().st_size for path in files.values())
        where = f"s3://{self._bucket}/{prefix}/"
        self.console.print(f"{len(files)} files, {_bytes(size)}, are at {where}")

    # -- the runs ---------------------------------------------------------------------------------

    def _realtime(self, prefixes: Mapping[str, str]) -> dict[str, Any]:
        self._heading("A REALTIME run: executed at once")
        run = self._watch(self._submit("REALTIME", prefixes))
        self.console.print("Its output:")
        self.console.print(JSON(json.dumps(run["output"])), soft_wrap=True)
        return run

    def _batch(self, prefixes: Mapping[str, str]) -> dict[str, Any]:
        self._heading("A BATCH run: a job at the Workbench, asked about at the poll interval")
        return self._watch(self._submit("BATCH", prefixes))

    def _submit(self, mode: str, prefixes: Mapping[str, str]) -> dict[str, Any]:
        """POSTs a run; what the service refuses or fails is told in its own words."""
        body = {"pipeline_id": self._pipeline(mode), **prefixes, "tags": {"made-by": "demo"}}
        answer = self._api.post(
            "/pipeline-run", json=body, headers={"Idempotency-Key": str(uuid4())}
        )
        told: dict[str, Any] = answer.json()
        if answer.status_code in {201, 202}:
            job = f", Workbench job {told['workbench_job_id']}" if told["workbench_job_id"] else ""
            self.console.print(f"POST /pipeline-run → {answer.status_code}: run {told['id']}{job}")
            return told
        if "pipeline_run_id" not in told:
            raise StackTrouble(f"POST /pipeline-run → {answer.status_code}: {told['detail']}")
        self.console.print(f"POST /pipeline-run → {answer.status_code}: {told['detail']}")
        return self._get(f"/pipeline-run/{told['pipeline_run_id']}")

    def _pipeline(self, mode: str) -> int:
        """The demo's pipeline of this mode, made on first use."""
        name, workflow = PIPELINES[mode]
        body = {"name": name, "mode": mode, "workflow_name": workflow}
        answer = self._api.post("/pipeline", json=body)
        if answer.status_code == 201:
            return int(answer.json()["id"])
        token = ""
        while True:
            page = self._get("/pipeline", page_size=200, page_token=token)
            for pipeline in page["items"]:
                if pipeline["name"] == name:
                    return int(pipeline["id"])
            token = page["next_page_token"]
            if not token:
                raise StackTrouble(f"The pipeline {name} can't be made: {answer.text}")

    def _watch(self, run: dict[str, Any]) -> dict[str, Any]:
        """Shows each status as it is entered, until the run ends."""
        shown = 0
        until = time.monotonic() + PATIENCE_SECONDS
        with self._waiting() as status:
            while True:
                run = self._get(f"/pipeline-run/{run['id']}")
                if run["version"] > shown:
                    shown = self._show_history(run, shown)
                if run["status"] in TERMINAL:
                    return run
                if time.monotonic() > until:
                    raise StackTrouble(
                        f"Run {run['id']} is still {run['status']} after {PATIENCE_SECONDS} s:"
                        " look at it with make status and make logs"
                    )
                status.update(_waiting_for(run))
                time.sleep(LOOK_EVERY_SECONDS)

    @contextmanager
    def _waiting(self) -> Iterator[Status]:
        with Status("", console=self.console) as status:
            yield status

    def _show_history(self, run: Mapping[str, Any], shown: int) -> int:
        """Prints the events after version `shown`; returns the newest version."""
        events = self._get(f"/pipeline-run/{run['id']}/events")["items"]
        begin = datetime.fromisoformat(events[0]["at"])
        for event in events:
            if event["version"] > shown:
                after = (datetime.fromisoformat(event["at"]) - begin).total_seconds()
                colour = COLOURS[event["status"]]
                why = f"  {event['error']}" if event["error"] else ""
                self.console.print(f"  {after:6.1f} s  [{colour}]{event['status']}[/]{why}")
        return int(events[-1]["version"])

    # -- the results ------------------------------------------------------------------------------

    def _written(self, prefix: str) -> dict[str, int]:
        """The sizes of the objects below a prefix, in bytes."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix
        )
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", ())}

    def _show_written(self, written: Mapping[str, int]) -> None:
        self._heading("The objects written")
        table = Table("object", "size", box=None, pad_edge=False)
        table.columns[1].justify = "right"
        table.columns[0].overflow = "fold"
        for name, size in written.items():
            table.add_row(name, _bytes(size))
        self.console.print(table)

    def _place_of(self, key: str) -> str:
        """Where a person finds an object: a file of the storage's folder, where that is ours."""
        folder = self.stack.get("storage_path")
        return str(Path(folder) / key) if folder else f"s3://{self._bucket}/{key}"

    def _farewell(self, batch: Mapping[str, Any], report: str, *, complete: bool) -> None:
        api = self.stack["api_url"]
        self.console.print()
        if complete:
            self.console.print("[bold green]Both runs COMPLETED.[/] The report, for a browser:")
            self.console.print(f"  {report}", soft_wrap=True)
        else:
            self.console.print("[bold red]Not all of it worked:[/] see above, and make logs")
        self.console.print("\nThe stack is still up. To look further:")
        for line in (
            f"{api}/docs   in a browser: the API, to read and to try",
            f'curl -H "Authorization: Bearer $(make -s token)" {api}/pipeline-run/{batch["id"]}',
            "make run INPUT=folder   your own files",
            "make status             what runs where",
            "make logs               what it says",
            "make down               stop it; runs and files are kept",
        ):
            self.console.print(f"  {line}", soft_wrap=True, highlight=False)

    # -- the ways to the stack --------------------------------------------------------------------

    @property
    def _bucket(self) -> str:
        return str(self.stack["storage_bucket"])

    @cached_property
    def _api(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.stack["api_url"],
            headers={"Authorization": f"Bearer {self.stack['api_token']}"},
            timeout=40,
            trust_env=False,
        )

    @cached_property
    def _s3(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.stack["storage_endpoint_url"],
            aws_access_key_id=self.stack["storage_access_key_id"],
            aws_secret_access_key=self.stack["storage_secret_access_key"],
            region_name=self.stack["aws_region"],
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def _get(self, path: str, **query: Any) -> dict[str, Any]:
        answer = self._api.get(path, params=query)
        if answer.status_code != 200:
            raise StackTrouble(f"GET {path} → {answer.status_code}: {answer.text}")
        told: dict[str, Any] = answer.json()
        return told

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
    except StackTrouble as trouble:
        print(f"\nerror: {trouble}", file=sys.stderr, flush=True)
        return 1


def _penguins() -> Path:
    """The folder of the data files in the package; importing it would need pandas."""
    spec = importlib.util.find_spec("palmerpenguins")
    if spec is None or spec.origin is None:
        raise StackTrouble("The package palmerpenguins is missing: run make up again")
    return Path(spec.origin).parent / "data"


def _waiting_for(run: Mapping[str, Any]) -> str:
    seen = run["observation"]
    progress = seen["progress"]
    done = f", {progress['done']} of {progress['total']} objects" if progress else ""
    trouble = f"; last trouble: {seen['last_error']}" if seen["last_error"] else ""
    return f"{run['status']}{done}: waiting for the next check{trouble}"


def _bytes(size: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024  # type: ignore[assignment]  # a fraction from here on
    return f"{size:,.1f} GiB"
