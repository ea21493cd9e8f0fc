"""What a run has written: the objects below its prefixes, with links that anyone can follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runs.errors import NoReport, StorageRefused

if TYPE_CHECKING:
    from runs.model import PipelineRun
    from runs.ports import Runs, Storage, StoredObject
    from runs.prefixes import StorageRules


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsPage:
    """Some of a run's objects, ascending by name."""

    objects: tuple[StoredObject, ...]
    next_after: str | None
    """The name that the next page begins after; None: this was the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The use case, with what it needs."""

    runs: Runs
    storage: Storage
    rules: StorageRules

    def outputs(
        self, run_id: int, *, tenant_id: str, page_size: int, after: str | None = None
    ) -> ResultsPage:
        """What lies below the output prefix; browsers save it as files.

        Args:
            run_id: the run's, whatever its status: an active one may have written something.
            tenant_id: the caller's.
            page_size: from 1 to 1,000.
            after: a page's `next_after`, which never leads out of the run's prefix.

        Raises:
            RunNotFound: none has this id.
            StorageUnavailable: the storage can't be asked now.
            StorageRefused: the prefix is in no bucket that may be looked into.
        """
        run = self.runs.run(run_id, tenant_id=tenant_id)
        return self._page(
            run,
            "output_path_prefix",
            run.user_storage_output_path_prefix,
            page_size=page_size,
            after=after,
            inline=False,
        )

    def report(
        self, run_id: int, *, tenant_id: str, page_size: int, after: str | None = None
    ) -> ResultsPage:
        """What lies below the report prefix; browsers show what they can.

        For the arguments see `outputs`.

        Raises:
            RunNotFound: none has this id.
            NoReport: the run has no such prefix.
            StorageUnavailable: the storage can't be asked now.
            StorageRefused: the prefix is in no bucket that may be looked into.
        """
        run = self.runs.run(run_id, tenant_id=tenant_id)
        prefix = run.user_storage_report_path_prefix
        if prefix is None:
            raise NoReport(f"Run {run.id} was made without report_path_prefix")
        return self._page(
            run, "report_path_prefix", prefix, page_size=page_size, after=after, inline=True
        )

    def _page(
        self,
        run: PipelineRun,
        field: str,
        prefix: str,
        *,
        page_size: int,
        after: str | None,
        inline: bool,
    ) -> ResultsPage:
        # The rules of today: a link must not lead where the run could not be made any more.
        if why := self.rules.refusal(prefix, run.tenant_id):
            raise StorageRefused(f"The {field} of run {run.id} {why}")
        place = self.rules.location(prefix)
        page = self.storage.objects(
            place,
            page_size=page_size,
            after="" if after is None else place.folder + after,
            inline=inline,
        )
        return ResultsPage(
            objects=tuple(page.objects),
            next_after=(
                None if page.next_after is None else page.next_after.removeprefix(place.folder)
            ),
        )
