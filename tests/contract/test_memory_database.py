"""The fake database and the real one agree, whatever is done to them in whatever order."""

from __future__ import annotations

from contextlib import closing
from dataclasses import astuple
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from made_runs import now_of
from runs.errors import IdempotencyKeyReused, IllegalTransition, PipelineNotFound
from runs.model import (
    ErrorCategory,
    Finding,
    NewRun,
    PipelineRun,
    Progress,
    RunError,
    Stray,
    Transition,
    transition,
)
from runs.ports import RunFilter
from runs.status import PipelineMode, PipelineRunStatus
from runs_stores import MemoryStore, PostgresStore

if TYPE_CHECKING:
    import sqlalchemy as sa

    from runs.ports import StrayCheck
    from runs_stores import Store

S = PipelineRunStatus
TENANT = "default"
NOWHERE = 2**40
LEASE = timedelta(seconds=20)
STEP = timedelta(seconds=30)
"""Far from every time that anything depends on, so that the moments that pass don't matter."""
MOMENT = timedelta(milliseconds=1)
"""What a call takes: what is written later is later, in memory too."""
BACK_OFF = timedelta(seconds=45)
SHORTEST = 60
SECOND_LOOK = timedelta(minutes=15)
WORKBENCH = "http://workbench.test"
ERROR = RunError("c", ErrorCategory.UPSTREAM, "m")

places = st.integers(0, 2)
texts = st.sampled_from(["fine", "a\0b"])


class Twins(RuleBasedStateMachine):
    """Does everything to both, and compares what they answer.

    Runs are named by their place in the order of their making: Postgres leaves gaps in the ids.
    """

    stores: tuple[MemoryStore, PostgresStore]
    tables = (
        "workbench_breakers",
        "stray_checks",
        "idempotency_keys",
        "run_observations",
        "pipeline_run_events",
        "pipeline_runs",
        "pipelines",
    )

    @initialize()
    def begin(self) -> None:
        self.real = self.postgres
        for table in self.tables:
            self.real.execute(f"DELETE FROM {table}")  # noqa: S608  # ours
        self.real.execute("UPDATE poll_shards SET last_polled_at = '-infinity'")
        self.real.execute("UPDATE runs_clock SET \"offset\" = '0'")
        self.stores = (MemoryStore(), self.real)
        self.pipelines = [
            store.pipelines.create_pipeline(
                tenant_id=TENANT,
                name="p",
                mode=PipelineMode.BATCH,
                workflow_name="w",
                workflow_version=None,
            ).id
            for store in self.stores
        ]
        self.ids: tuple[list[int], list[int]] = ([], [])
        self.checks: tuple[list[StrayCheck], list[StrayCheck]] = ([], [])

    postgres: PostgresStore

    @rule(
        key=st.sampled_from("abcdef"),
        fingerprint=st.sampled_from("fg"),
        lease=st.sampled_from([LEASE, None]),
        is_known=st.sampled_from([True, True, True, False]),
        is_retry=st.booleans(),
    )
    def record(
        self,
        key: str,
        fingerprint: str,
        lease: timedelta | None,
        *,
        is_known: bool,
        is_retry: bool,
    ) -> None:
        def call(number: int, store: Store) -> object:
            new = NewRun(
                tenant_id=TENANT,
                pipeline_id=self.pipelines[number] if is_known else NOWHERE,
                input_path_prefix="in",
                output_path_prefix="out",
                report_path_prefix=None,
                parameters={"a": [1]},
                tags={"t": "v"},
                timeout_seconds=SHORTEST,
                retry_of=self.ids[number][0] if is_retry and self.ids[number] else None,
            )
            try:
                made = store.runs.record(
                    new, route="r", key=key, fingerprint=fingerprint, lease=lease
                )
            except PipelineNotFound:
                return "no pipeline"
            except IdempotencyKeyReused as refused:
                return "reused", self.ids[number].index(refused.run_id)
            if not made.replayed:
                self.ids[number].append(made.run.id)
            return made.replayed, self.shape(number, made.run), len(made.events)

        self.agree(call)

    @rule(
        place=places,
        to=st.sampled_from([S.SUBMITTED, S.RUNNING, *S]),
        forces=st.booleans(),
        wait=st.booleans(),
        text=texts,
        is_stray=st.booleans(),
    )
    def move(  # noqa: PLR0917  # drawn
        self,
        place: int,
        to: PipelineRunStatus,
        forces: bool,  # noqa: FBT001  # drawn
        wait: bool,  # noqa: FBT001  # drawn
        text: str,
        is_stray: bool,  # noqa: FBT001  # drawn
    ) -> None:
        """By the gate where it lets pass, else by a transition that nobody should have made."""

        def call(number: int, store: Store) -> object:
            run = self.at(place, number)
            if not run:
                return None
            job_id = None if run.workbench_job_id else f"job-{place}"
            error = RunError("c", ErrorCategory.USER, text) if to is S.FAILED else None
            stray = Stray(reason=text, job_ids=(f"job-{run.version}",)) if is_stray else None
            change: Transition | None
            try:
                change = transition(run, to, workbench_job_id=job_id, error=error, stray=stray)
            except IllegalTransition:
                change = Transition(
                    run_id=run.id,
                    seen_version=run.version,
                    seen_status=run.status if forces else S.CREATED,
                    path=(to,),
                    error=error,
                )
            events = store.runs.move([change] if change else [], wait=wait)
            return [
                (one.version, one.previous_status, one.status, one.error_message, one.tags)
                for one in events
            ]

        self.agree(call)

    @rule(
        chosen=st.lists(places, max_size=4, unique=True),
        word=st.sampled_from(["RUNNING", "QUEUED", None]),
        trouble=st.sampled_from([None, "time-out", "a\0b"]),
        progress=st.sampled_from([None, Progress(1, 2)]),
        backs_off=st.booleans(),
        is_unknown=st.booleans(),
    )
    def observe(
        self,
        chosen: list[int],
        word: str | None,
        trouble: str | None,
        progress: Progress | None,
        *,
        backs_off: bool,
        is_unknown: bool,
    ) -> None:
        def call(number: int, store: Store) -> None:
            now = now_of(store)
            until = now + BACK_OFF if backs_off and trouble else None
            found = {run.id for place in chosen for run in [self.at(place, number)] if run}
            store.runs.observe(
                [
                    Finding(
                        run_id=run_id,
                        upstream_status=word,
                        progress=progress,
                        trouble=trouble,
                        unknown_job=is_unknown and trouble is not None,
                        next_check_at=until,
                    )
                    for run_id in found
                ]
            )

        self.agree(call)

    @rule(place=places)
    def take_submit_lease(self, place: int) -> None:
        def call(number: int, store: Store) -> object:
            run = self.at(place, number)
            return run and store.runs.take_submit_lease(run, LEASE)

        self.agree(call)

    @rule(place=places, reason=st.sampled_from(["because", None]), submits=st.booleans())
    def request_cancel(self, place: int, reason: str | None, *, submits: bool) -> None:
        def call(number: int, store: Store) -> object:
            run = self.at(place, number)
            if not run:
                return None
            asked = store.runs.request_cancel(run.id, tenant_id=TENANT, reason=reason).run
            given = submits and store.runs.take_submit_lease(asked, LEASE)
            return self.shape(number, asked), given

        self.agree(call)

    @rule(chosen=st.lists(places, max_size=4), outage=st.sampled_from([STEP, 9 * STEP]))
    def time_out(self, chosen: list[int], outage: timedelta) -> None:
        def call(number: int, store: Store) -> object:
            ids = self.ids[number]
            named = [NOWHERE, *{ids[place % len(ids)]: None for place in chosen if ids}]
            store.runs.time_out(named)
            pressing = store.runs.pressing(named, outage=outage)
            alone = [store.runs.is_alone(run_id) for run_id in named]
            return [ids.index(run_id) for run_id in pressing], alone

        self.agree(call)

    @rule(
        spared=st.sampled_from([None, None, 0]),
        only_unknown=st.booleans(),
        lasts=st.sampled_from([timedelta(0), STEP, 2 * STEP, 2 * STEP]),
        most=st.integers(1, 3),
        heals=st.booleans(),
    )
    def outage(
        self, spared: int | None, lasts: timedelta, most: int, *, only_unknown: bool, heals: bool
    ) -> None:
        """All runs but one fail for a while; some are probed, and perhaps one is answered."""

        def probe(number: int, store: Store) -> object:
            given = store.breakers.probes(WORKBENCH, most=most, every=3 * STEP)
            return [self.ids[number].index(run_id) for run_id in given]

        def fail(_: int, store: Store) -> None:
            store.breakers.failed(WORKBENCH, only_unknown=only_unknown)

        places = [place for place in range(len(self.ids[0])) if place != spared]
        self.observe(places, None, "time-out", None, backs_off=False, is_unknown=only_unknown)
        self.agree(fail)
        self.move_time(lasts)
        self.agree(fail)
        self.agree(probe)
        if heals:
            self.agree(lambda _, store: store.breakers.answered(WORKBENCH))

    @rule(
        after=st.sampled_from([timedelta(0), 2 * STEP, 30 * STEP]),
        back=st.integers(0, 3),
        cancelled=st.integers(0, 2),
        is_last=st.booleans(),
    )
    def hunt(self, after: timedelta, back: int, cancelled: int, *, is_last: bool) -> None:
        """Takes all checks that are due, for of those that are due at once none is the first.

        Then one of the last that were ever given is looked into; others may have looked since.
        """

        def due(number: int, store: Store) -> object:
            checks = sorted(store.stray_checks.due(99), key=lambda check: check.run.id)
            self.checks[number].extend(checks)
            return [
                (self.shape(number, check.run), list(check.job_ids), check.looks)
                for check in checks
            ]

        def look(number: int, store: Store) -> None:
            for check in self.checks[number][-back:][: min(back, 1)]:
                again_at = None if is_last else check.noted_at + SECOND_LOOK
                store.stray_checks.looked(check, cancelled=cancelled, next_look_at=again_at)

        self.move_time(after)
        self.agree(due)
        self.agree(look)

    @rule(late=st.sampled_from([-STEP, STEP]))
    def claim(self, late: timedelta) -> None:
        def call(number: int, store: Store) -> object:
            claimed = store.runs.claim(
                range(256),
                older_than=timedelta(seconds=15),
                not_after=store.true_now() - late,
            )
            due = [(self.ids[number].index(one.run_id), one.troubled) for one in claimed.due]
            return claimed.shards, sorted(due)

        self.agree(call)

    @rule(most=st.integers(1, 9), remembered=st.integers(0, 5))
    def relay(self, most: int, remembered: int) -> None:
        def call(number: int, store: Store) -> object:
            events = store.runs.unpublished(most)
            store.runs.mark_published(events[:remembered])
            return [(self.ids[number].index(one.run_id), one.version) for one in events]

        self.agree(call)

    @rule(by=st.sampled_from([STEP, STEP, 4 * STEP, 30 * STEP, -STEP]))
    def move_time(self, by: timedelta) -> None:
        for store in self.stores:
            store.move_time(by)

    @invariant()
    def all_is_the_same(self) -> None:
        def call(number: int, store: Store) -> object:
            page = store.runs.page(RunFilter(), tenant_id=TENANT, page_size=99, before=None)
            cancelled = store.strays_cancelled()
            strays = {
                self.ids[number].index(one): (why, cancelled[one])
                for one, why in store.strays().items()
            }
            breaker = astuple(store.breakers.breaker(WORKBENCH))
            known = [moment is not None for moment in breaker]
            return [self.shape(number, run) for run in page.runs], strays, known

        self.agree(call)

    def at(self, place: int, number: int) -> PipelineRun | None:
        """The run at this place, counted round; as the store has it now."""
        ids = self.ids[number]
        if not ids:
            return None
        return self.stores[number].runs.run(ids[place % len(ids)], tenant_id=TENANT)

    def agree(self, call: Any) -> None:
        self.stores[0].move_time(MOMENT)
        in_memory, on_postgres = (call(n, store) for n, store in enumerate(self.stores))
        assert in_memory == on_postgres

    def shape(self, number: int, run: PipelineRun) -> dict[str, object]:
        """A run without what differs from database to database: ids and moments."""
        seen = run.observation
        moments = (run.created_at, run.started_at, run.updated_at, run.completed_at)
        set_ones = [moment for moment in moments if moment]
        assert set_ones == sorted(set_ones)
        return {
            "place": self.ids[number].index(run.id),
            "status": run.status,
            "version": run.version,
            "job": run.workbench_job_id,
            "error": run.error,
            "set": [moment is not None for moment in moments],
            "json": (run.parameters, run.tags, run.output),
            "lease": run.submit_lease_until is not None,
            "attempts": run.submit_attempts,
            "backed off": run.next_check_at is not None,
            "retries": run.retry_of and self.ids[number].index(run.retry_of),
            "to end": (run.cancel_requested_at is not None, run.cancel_cause, run.cancel_reason),
            "seen": (
                seen.last_checked_at is not None,
                seen.upstream_status,
                seen.progress,
                seen.consecutive_failures,
                seen.last_error,
                seen.unknown_since is not None,
                seen.unknown_count,
            ),
        }


@pytest.mark.usefixtures("database_url")
def test_the_fake_and_the_real_database_agree(database_url: sa.URL) -> None:
    with closing(PostgresStore(database_url)) as postgres:
        machine = type("Machine", (Twins,), {"postgres": postgres})
        hypothesis.stateful.run_state_machine_as_test(
            machine,
            settings=hypothesis.settings(max_examples=60, stateful_step_count=25, deadline=None),
        )
