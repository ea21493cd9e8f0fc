"""What a job does with its objects, one after another, and a realtime run's quick look.

A table becomes a cleaned Parquet file `<name>.parquet`; anything else is copied as it is. When
all are done, `manifest.json` lists inputs and results with their checksums, and the report is
written if one is wanted. All may be done again: results are overwritten.
"""

from __future__ import annotations

import hashlib
import mimetypes
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from polars.exceptions import PanicException, PolarsError

from infra.workbench.errors import BrokenFile, NothingThere
from infra.workbench.facts import FileFacts, JobFacts, ObjectFacts, TableFacts
from infra.workbench.profiles import profile_columns
from infra.workbench.tables import (
    BrokenTable,
    TableKind,
    clean,
    kind_of,
    names_in_file,
    read_table,
)

if TYPE_CHECKING:
    import polars as pl

    from infra.workbench.bodies import ProfileRequest
    from infra.workbench.jobs import Job
    from infra.workbench.prefixes import Prefix
    from infra.workbench.storage import Storage, StoredObject

MANIFEST_NAME = "manifest.json"
REPORT_NAME = "report.html"
FACTS_NAME = "report.json"
OUR_NAMES = frozenset({MANIFEST_NAME, REPORT_NAME, FACTS_NAME})

# A table is worked on in memory; a larger one is copied, and the report says so.
MAX_TABLE_BYTES = 512 * 1024 * 1024
MAX_PROFILED_TABLES = 20
MAX_PROFILED_BYTES = 64 * 1024 * 1024
MAX_COLUMN_NAMES = 50

JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=utf-8"
PARQUET_TYPE = "application/vnd.apache.parquet"
ANY_TYPE = "application/octet-stream"


class S3Processor:
    """Works on objects of the user storage.

    Args:
        storage: Where they are.
        scratch_path: A folder of its own for files being worked on; emptied at once.
    """

    def __init__(self, storage: Storage, *, scratch_path: Path) -> None:
        self._storage = storage
        self._scratch_path = scratch_path
        # An earlier process may have been killed over its files.
        shutil.rmtree(scratch_path, ignore_errors=True)
        scratch_path.mkdir(parents=True)

    def open(self, job: Job) -> JobWork:
        """Lists what the job has to work on; earlier results below its input are left out.

        Raises:
            NothingThere: No object lies below the input prefix.
            JobTrouble: The storage can't be asked.
        """
        wanted = job.submission
        found = self._storage.objects_below(wanted.input_prefix)
        ours = [
            prefix.folder
            for prefix in (wanted.output_prefix, wanted.report_prefix)
            if prefix and wanted.input_prefix.covers(prefix)
        ]
        sources = tuple(one for one in found if not one.key.startswith(tuple(ours)))
        if not sources:
            raise NothingThere(f"Nothing but earlier results lies below {wanted.input_prefix}.")
        return JobWork(job, sources, self._storage, self._scratch_path)

    def profile(self, request: ProfileRequest) -> dict[str, object]:
        """A realtime run's output: how much there is, and the shape of the first tables.

        Raises:
            JobTrouble: There is nothing to look at, a table is broken, or no way to it.
        """
        found = self._storage.objects_below(request.input_prefix)
        tables = [(one, kind) for one in found if (kind := kind_of(one.name))]
        shapes: list[dict[str, object]] = []
        budget_bytes = MAX_PROFILED_BYTES
        for source, kind in tables[:MAX_PROFILED_TABLES]:
            budget_bytes -= source.size_bytes
            if budget_bytes < 0:
                break
            shapes.append(self._shape_of(source, kind))
        return {
            "input": str(request.input_prefix),
            "objects": len(found),
            "bytes": sum(one.size_bytes for one in found),
            "tables": shapes,
            "tables_not_profiled": len(tables) - len(shapes),
            "other_files": len(found) - len(tables),
        }

    def _shape_of(self, source: StoredObject, kind: TableKind) -> dict[str, object]:
        with tempfile.TemporaryDirectory(dir=self._scratch_path) as folder:
            path = Path(folder) / "source"
            self._storage.download(source, path)
            frame = _read(source, path, kind)
        return {
            "name": source.name,
            "bytes": source.size_bytes,
            "rows": frame.height,
            "columns": frame.width,
            "column_names": names_in_file(frame, kind)[:MAX_COLUMN_NAMES],
        }


class JobWork:
    """One job's objects, and what is known of those that are done."""

    def __init__(
        self, job: Job, sources: tuple[StoredObject, ...], storage: Storage, scratch_path: Path
    ) -> None:
        self.sources = sources
        self._job = job
        self._wanted = job.submission
        self._storage = storage
        self._scratch_path = scratch_path
        self._done: list[ObjectFacts] = []

    def process(self, source: StoredObject) -> None:
        """Works on one object and writes its result.

        Raises:
            BrokenFile: It isn't what its name says.
            JobTrouble: The storage can't be asked.
        """
        with tempfile.TemporaryDirectory(dir=self._scratch_path) as folder:
            path = Path(folder) / "source"
            sha256 = self._storage.download(source, path)
            taken = FileFacts(
                name=source.name,
                uri=source.uri,
                size_bytes=path.stat().st_size,
                sha256=sha256,
            )
            kind = kind_of(source.name)
            if kind is None:
                self._done.append(self._copy(path, taken))
            elif taken.size_bytes > MAX_TABLE_BYTES:
                note = "Too large to be worked on as a table: copied."
                self._done.append(self._copy(path, taken, note=note))
            else:
                self._done.append(self._refine(source, path, taken, kind))

    def finish(self) -> None:
        """Writes the report, if wanted, and the manifest: it is there when all is there.

        Raises:
            JobTrouble: The storage can't be asked.
        """
        facts = JobFacts(
            workbench_job_id=self._job.id,
            pipeline_run_id=self._wanted.pipeline_run_id,
            input=str(self._wanted.input_prefix),
            output=str(self._wanted.output_prefix),
            started_at=datetime.fromtimestamp(self._job.started_at or 0, UTC).isoformat(),
            objects=tuple(self._done),
        )
        if self._wanted.report_prefix:
            self._write_report(facts, self._wanted.report_prefix)
        self._storage.write(
            facts.manifest(), self._wanted.output_prefix, MANIFEST_NAME, content_type=JSON_TYPE
        )

    def _write_report(self, facts: JobFacts, prefix: Prefix) -> None:
        # On the first report: matplotlib takes a while that jobs without one needn't wait for.
        from infra.workbench.report import render  # noqa: PLC0415 - as said above

        page = render(facts).encode()
        self._storage.write(facts.report(), prefix, FACTS_NAME, content_type=JSON_TYPE)
        self._storage.write(page, prefix, REPORT_NAME, content_type=HTML_TYPE)

    def _copy(self, path: Path, taken: FileFacts, *, note: str | None = None) -> ObjectFacts:
        name = f"{taken.name}.original" if taken.name in OUR_NAMES else taken.name
        content_type = mimetypes.guess_type(taken.name)[0] or ANY_TYPE
        return ObjectFacts(
            source=taken,
            target=self._put(path, name, taken.sha256, content_type=content_type),
            note=note,
        )

    def _refine(
        self, source: StoredObject, path: Path, taken: FileFacts, kind: TableKind
    ) -> ObjectFacts:
        frame = _read(source, path, kind)
        result = path.with_name("result.parquet")
        try:
            table = clean(frame, kind)
            table.frame.write_parquet(result)
            columns = profile_columns(table)
        except (PolarsError, PanicException) as error:
            raise BrokenFile(f"{source.uri} can't be worked on as a table: {error}") from error
        with result.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return ObjectFacts(
            source=taken,
            target=self._put(result, f"{source.name}.parquet", sha256, content_type=PARQUET_TYPE),
            table=TableFacts(
                kind=kind,
                rows_read=frame.height,
                rows_written=table.frame.height,
                changes=table.changes,
                columns=columns,
            ),
        )

    def _put(self, path: Path, name: str, sha256: str, *, content_type: str) -> FileFacts:
        prefix = self._wanted.output_prefix
        self._storage.upload(path, prefix, name, content_type=content_type)
        return FileFacts(
            name=name, uri=prefix.uri_of(name), size_bytes=path.stat().st_size, sha256=sha256
        )


def _read(source: StoredObject, path: Path, kind: TableKind) -> pl.DataFrame:
    try:
        return read_table(path, kind)
    except BrokenTable as fault:
        raise BrokenFile(f"{source.uri} can't be read as {kind}: {fault}.") from fault
