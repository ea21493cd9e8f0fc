"""Mutants: the safety code with one thing taken away, which the tests have to notice.

`make mutants` makes each in a copy of the project and runs the tests named with it. Every property
from P1 to P28 has one at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DOMAIN: Final = "functions/runs"
SQL: Final = f"{DOMAIN}/adapters/postgres/statements.py"
FIRST_MIGRATION: Final = "infra/migrations/versions/0001_runs.py"

UNIT: Final = "tests/unit"
RUNS_CONTRACT: Final = "tests/contract/test_runs_contract.py"
COMMANDS_CONTRACT: Final = "tests/contract/test_commands_contract.py"
LISTING: Final = f"{DOMAIN}/adapters/postgres/listing.py"
LISTS: Final = "tests/contract/test_lists.py"
THIRD_MIGRATION: Final = "infra/migrations/versions/0003_tenants_and_limits.py"
POSTGRES: Final = "tests/contract/test_postgres.py"


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One thing taken away.

    Attributes:
        name: What is missing.
        properties: The numbers of those that it guards.
        file: Where.
        old: A text that stands there, as often as it stands there.
        new: What stands in its place.
        tests: Which to run.
    """

    name: str
    properties: tuple[int, ...]
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS: Final = (
    # -- status -----------------------------------------------------------------------------------
    Mutant(
        name="an edge that isn't in the diagram",
        properties=(1,),
        file=f"{DOMAIN}/status.py",
        old="_S.SUBMITTED: frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED})",
        new="_S.SUBMITTED: frozenset({_S.RUNNING, _S.COMPLETED, _S.FAILED, _S.CANCELLED})",
        tests=(f"{UNIT}/test_status.py", f"{UNIT}/test_checking.py"),
    ),
    Mutant(
        name="an answer may lead backwards",
        properties=(2,),
        file=f"{DOMAIN}/checking.py",
        old="if to is None or RANK[to] <= RANK[run.status]:",
        new="if to is None or to is run.status:",
        tests=(f"{UNIT}/test_checking.py",),
    ),
    Mutant(
        name="no trigger that keeps an ended run",
        properties=(3,),
        file=FIRST_MIGRATION,
        old="WHEN (OLD.status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND",
        new="WHEN (false AND",
        tests=(POSTGRES, RUNS_CONTRACT),
    ),
    Mutant(
        name="a walk counts as one step",
        properties=(4,),
        file=SQL,
        old="version = run.version + cardinality(path)",
        new="version = run.version + 1",
        tests=(RUNS_CONTRACT,),
    ),
    Mutant(
        name="time may step back",
        properties=(5,),
        file=SQL,
        old="GREATEST(runs_now(), run.updated_at)",
        new="runs_now()",
        tests=(RUNS_CONTRACT,),
    ),
    Mutant(
        name="FAILED without an error, and an error without FAILED",
        properties=(6,),
        file=f"{DOMAIN}/model.py",
        old="if not path or renamed or (error is None) is (to is PipelineRunStatus.FAILED):",
        new="if not path or renamed:",
        tests=(f"{UNIT}/test_model.py",),
    ),
    # -- submission -------------------------------------------------------------------------------
    Mutant(
        name="a key that isn't unique",
        properties=(7,),
        file=FIRST_MIGRATION,
        old="    PRIMARY KEY (tenant_id, route, key)\n",
        new="    CHECK (true)\n",
        tests=(RUNS_CONTRACT,),
    ),
    Mutant(
        name="another body under the same key passes",
        properties=(7, 13),
        file=f"{DOMAIN}/adapters/postgres/runs.py",
        old='if rows[0]["fingerprint"] != fingerprint:',
        new="if not fingerprint:",
        tests=(RUNS_CONTRACT,),
    ),
    Mutant(
        name="a lease that is given while another is live",
        properties=(8,),
        file=SQL,
        old="AND (submit_lease_until IS NULL OR submit_lease_until <= runs_now())\n"
        "        AND (cancel_requested_at",
        new="AND (cancel_requested_at",
        tests=(RUNS_CONTRACT,),
    ),
    Mutant(
        name="the lease is taken and not heeded",
        properties=(8,),
        file=f"{DOMAIN}/submission.py",
        old="if not may_start or not self.runs.take_submit_lease(run, SUBMIT_LEASE):",
        new="if not may_start:",
        tests=(f"{UNIT}/test_submission.py", f"{UNIT}/test_submission_outcomes.py"),
    ),
    Mutant(
        name="a second start while a workflow runs",
        properties=(8,),
        file=f"{DOMAIN}/outcomes.py",
        old="        Seen.RUNNING: Verdict.WAIT,\n        Seen.DONE: Verdict.SUCCEED,",
        new="        Seen.RUNNING: Verdict.START,\n        Seen.DONE: Verdict.SUCCEED,",
        tests=(f"{UNIT}/test_submission.py", f"{UNIT}/test_submission_outcomes.py"),
    ),
    Mutant(
        name="a workflow without the run's key",
        properties=(8,),
        file=f"{DOMAIN}/submission.py",
        old='"idempotency_key": run.correlation_id,',
        new='"idempotency_key": f"{run.correlation_id}-{run.submit_attempts}",',
        tests=(f"{UNIT}/test_submission.py", f"{UNIT}/test_api_submission.py"),
    ),
    Mutant(
        name="the Workbench isn't asked for a job that may exist",
        properties=(9,),
        file=f"{DOMAIN}/submission.py",
        old="            return self.workbench.jobs_of(run.correlation_id, within=LOOK_UP_TIMEOUT)\n",
        new="            return None\n",
        tests=(f"{UNIT}/test_submission.py", f"{UNIT}/test_submission_outcomes.py"),
    ),
    Mutant(
        name="a doubtful job isn't noted",
        properties=(8, 9),
        file=f"{DOMAIN}/outcomes.py",
        old="    others = [sight for sight in sights if sight is not kept]\n",
        new="    others: list[Sight] = []\n",
        tests=(f"{UNIT}/test_hunting.py", f"{UNIT}/test_submission_outcomes.py"),
    ),
    Mutant(
        name="the hunt takes the job of a run that goes on",
        properties=(9,),
        file=f"{DOMAIN}/hunting.py",
        old="        return {run.workbench_job_id}\n",
        new="        return set()\n",
        tests=(f"{UNIT}/test_hunting.py",),
    ),
    Mutant(
        name="no trigger that keeps a run's job",
        properties=(10,),
        file=FIRST_MIGRATION,
        old="WHEN (OLD.workbench_job_id IS NOT NULL AND",
        new="WHEN (false AND",
        tests=(POSTGRES, RUNS_CONTRACT),
    ),
    Mutant(
        name="a run that is CREATED isn't swept",
        properties=(11,),
        file=SQL,
        old="WHERE run.status_text IN ('CREATED', 'SUBMITTED', 'RUNNING')\n"
        "            AND (run.next_check_at",
        new="WHERE run.status_text IN ('SUBMITTED', 'RUNNING')\n            AND (run.next_check_at",
        tests=(RUNS_CONTRACT,),
    ),
    Mutant(
        name="an unreachable Conductor fails a run that may have a job",
        properties=(12,),
        file=f"{DOMAIN}/outcomes.py",
        old="{**_FIRST_TIME, Seen.NOT_SENT: Verdict.WAIT}",
        new="{**_FIRST_TIME}",
        tests=(f"{UNIT}/test_submission_outcomes.py",),
    ),
    Mutant(
        name="a lost answer is a failure",
        properties=(12,),
        file=f"{DOMAIN}/outcomes.py",
        old='return Seen.ANSWER_LOST, f"The workflow',
        new='return Seen.WORKBENCH_REFUSED, f"The workflow',
        tests=(f"{UNIT}/test_submission.py", f"{UNIT}/test_submission_outcomes.py"),
    ),
    Mutant(
        name="a run is written though its key was used",
        properties=(7, 13),
        file=SQL,
        old="FROM new JOIN keyed USING (run_id) WHERE admitted",
        new="FROM new LEFT JOIN keyed USING (run_id)",
        tests=(RUNS_CONTRACT,),
    ),
    # -- observation ------------------------------------------------------------------------------
    Mutant(
        name="a shard isn't due again after an interval",
        properties=(14,),
        file=f"{DOMAIN}/sweeping.py",
        old="older_than=self.poll_interval / 2",
        new="older_than=self.poll_interval * 2",
        tests=(f"{UNIT}/test_sweeping.py", f"{UNIT}/test_checking.py"),
    ),
    Mutant(
        name="a change that was missed isn't decided anew",
        properties=(15,),
        file=f"{DOMAIN}/checking.py",
        old="        if not missed:\n            return []\n",
        new="        if missed or not missed:\n            return []\n",
        tests=(f"{UNIT}/test_checking.py",),
    ),
    Mutant(
        name="an unknown status is a failure",
        properties=(16, 22),
        file=f"{DOMAIN}/checking.py",
        old="UPSTREAM_STATUSES.get(answer.upstream_status.strip().upper())",
        new="UPSTREAM_STATUSES.get(answer.upstream_status.strip().upper(), PipelineRunStatus.FAILED)",
        tests=(f"{UNIT}/test_checking.py",),
    ),
    Mutant(
        name="a job is lost at the first 404",
        properties=(17,),
        file=f"{DOMAIN}/deadlines.py",
        old="if seen.unknown_since is None or seen.unknown_count + 1 < LOSS_ANSWERS:",
        new="if seen.unknown_since is None:",
        tests=(f"{UNIT}/test_deadlines.py",),
    ),
    Mutant(
        name="jobs are lost though the Workbench knows none",
        properties=(17,),
        file=f"{DOMAIN}/checking.py",
        old="        return told or (breaker.opened_at is None and self.runs.is_alone(run.id))\n",
        new="        return True\n",
        tests=(f"{UNIT}/test_deadlines.py",),
    ),
    Mutant(
        name="a locked row holds up its batch",
        properties=(18,),
        file=SQL,
        old='when_locked="SKIP LOCKED"',
        new='when_locked=""',
        tests=(RUNS_CONTRACT, POSTGRES),
    ),
    Mutant(
        name="what can't be written for its data spoils the batch",
        properties=(18,),
        file=f"{DOMAIN}/adapters/postgres/runs.py",
        old="        except (DataRefused, RowLocked) as error:\n            if len(items) == 1:",
        new="        except (DataRefused, RowLocked) as error:\n            if len(items) >= 1:",
        tests=(RUNS_CONTRACT, POSTGRES),
    ),
    Mutant(
        name="a run that trips over a bug takes the others along",
        properties=(18,),
        file=f"{DOMAIN}/checking.py",
        old="        except DatabaseUnavailable:\n            raise\n        except Exception as error:",
        new="        except DatabaseUnavailable:\n            raise\n        except ZeroDivisionError as error:",
        tests=(f"{UNIT}/test_checking.py",),
    ),
    Mutant(
        name="a change of a run that has moved on",
        properties=(3, 19),
        file=SQL,
        old="AND run.version = change.seen_version AND run.status = change.seen_status",
        new="",
        tests=(RUNS_CONTRACT, POSTGRES),
    ),
    Mutant(
        name="a shard is claimed twice",
        properties=(19,),
        file=SQL,
        old="            AND last_polled_at <= clock.now - :older_than\n",
        new="            AND last_polled_at <= clock.now + :older_than\n",
        tests=(RUNS_CONTRACT,),
    ),
    Mutant(
        name="messages of any age are heeded",
        properties=(19,),
        file=f"{DOMAIN}/checking.py",
        old="if message.sent_at >= now - self.poll_interval]",
        new="if message.sent_at]",
        tests=(f"{UNIT}/test_checking.py",),
    ),
    Mutant(
        name="a page of shards is left out",
        properties=(20,),
        file=f"{DOMAIN}/sweeping.py",
        old="    for start in range(first, first + pages):",
        new="    for start in range(first, first + pages - 1):",
        tests=(f"{UNIT}/test_sweeping.py",),
    ),
    Mutant(
        name="a run is backed off for as long as the Workbench likes",
        properties=(20,),
        file=f"{DOMAIN}/checking.py",
        old="min(answer.retry_after or timedelta(0), LONGEST_BACK_OFF)",
        new="answer.retry_after or timedelta(0)",
        tests=(f"{UNIT}/test_checking.py",),
    ),
    Mutant(
        name="one try too many",
        properties=(21,),
        file=f"{DOMAIN}/checking.py",
        old="elif attempt + 1 < self.max_attempts",
        new="elif attempt < self.max_attempts",
        tests=(f"{UNIT}/test_checking.py",),
    ),
    Mutant(
        name="tries go on while the breaker is open",
        properties=(21,),
        file=f"{DOMAIN}/checking.py",
        old=" and not batch.breaker.opened_at:",
        new=":",
        tests=(f"{UNIT}/test_breaker.py", f"{UNIT}/test_checking.py"),
    ),
    Mutant(
        name="a Workbench that is down is asked for every run",
        properties=(21,),
        file=f"{DOMAIN}/sweeping.py",
        old="        if breaker.opened_at:\n            return pressing\n",
        new="        if breaker.opened_at:\n            return troubled\n",
        tests=(f"{UNIT}/test_breaker.py",),
    ),
    Mutant(
        name="words are taken by their case",
        properties=(22,),
        file=f"{DOMAIN}/checking.py",
        old="answer.upstream_status.strip().upper()",
        new="answer.upstream_status",
        tests=(f"{UNIT}/test_checking.py",),
    ),
    # -- commands and reading ---------------------------------------------------------------------
    Mutant(
        name="a cancel that is never carried",
        properties=(23,),
        file=f"{DOMAIN}/checking.py",
        old="        accepted = self._cancel(to_end, batch)\n",
        new="        accepted = self._cancel(to_end[:0], batch)\n",
        tests=(f"{UNIT}/test_cancelling.py",),
    ),
    Mutant(
        name="a cancel that waits for ever",
        properties=(23, 32),
        file=f"{DOMAIN}/deadlines.py",
        old="        if now >= deadline and not (accepted and is_first):\n",
        new="        if now < run.created_at and not (accepted and is_first):\n",
        tests=(f"{UNIT}/test_cancelling.py", f"{UNIT}/test_deadlines.py"),
    ),
    Mutant(
        name="a cancelled run is CANCELLED whatever became of its job",
        properties=(24,),
        file=f"{DOMAIN}/checking.py",
        old="    match to:\n        case PipelineRunStatus.CANCELLED:\n",
        new="    if run.cancel_requested_at and RANK[to] == RANK[PipelineRunStatus.CANCELLED]:\n"
        "        return ended_by_cancel(run)\n"
        "    match to:\n        case PipelineRunStatus.CANCELLED:\n",
        tests=(f"{UNIT}/test_cancelling.py",),
    ),
    Mutant(
        name="a run is submitted though it was cancelled before",
        properties=(25,),
        file=SQL,
        old="        AND (cancel_requested_at IS NULL OR submit_attempts > 0)\n",
        new="",
        tests=(COMMANDS_CONTRACT,),
    ),
    Mutant(
        name="a cancelled run goes through submission all the same",
        properties=(25,),
        file=f"{DOMAIN}/outcomes.py",
        old="    if run.cancel_requested_at:\n        return _WHEN_CANCELLED",
        new="    if run.submit_attempts < 0:\n        return _WHEN_CANCELLED",
        tests=(f"{UNIT}/test_cancelling.py",),
    ),
    Mutant(
        name="a submission answers with the run as it was before",
        properties=(26,),
        file=f"{DOMAIN}/submission.py",
        old="            return self.runs.run(run.id, tenant_id=run.tenant_id), events\n",
        new="            return run, events\n",
        tests=(f"{UNIT}/test_submission.py", f"{UNIT}/test_api_submission.py"),
    ),
    Mutant(
        name="a page leaves out the run after the page before",
        properties=(27,),
        file=LISTING,
        old="yield _RUN.id < before\n",
        new="yield _RUN.id < before - 1\n",
        tests=(LISTS,),
    ),
    Mutant(
        name="a short page is taken for the last",
        properties=(27,),
        file=LISTING,
        old='rows[0]["last"] if rows[0]["number"] == size else None',
        new="None",
        tests=(LISTS,),
    ),
    Mutant(
        name="ids and times are taken to rise together to the moment",
        properties=(27,),
        file=LISTING,
        old="SLACK: Final = timedelta(minutes=10)",
        new="SLACK: Final = timedelta(0)",
        tests=(LISTS,),
    ),
    Mutant(
        name="events that the bus refused count as published",
        properties=(28,),
        file=f"{DOMAIN}/publishing.py",
        old="            self._remember(taken)\n",
        new="            self._remember(events)\n",
        tests=(f"{UNIT}/test_publishing.py",),
    ),
    Mutant(
        name="a run's later event goes out before an earlier one",
        properties=(28,),
        file=f"{DOMAIN}/adapters/eventbridge.py",
        old="if event.run_id not in held_back]",
        new="if event.run_id]",
        tests=(f"{UNIT}/test_eventbridge.py",),
    ),
    # -- who calls --------------------------------------------------------------------------------
    Mutant(
        name="no scope is asked for",
        properties=(29,),
        file="functions/api/operations.py",
        old="    if not caller.may(scope):",
        new="    if not caller.scopes:",
        tests=(f"{UNIT}/test_api_access.py",),
    ),
    Mutant(
        name="tokens for others are taken",
        properties=(29,),
        file=f"{DOMAIN}/adapters/tokens.py",
        old='        if self._audience not in _texts(claims, "aud"):',
        new='        if not _texts(claims, "aud"):',
        tests=(f"{UNIT}/test_tokens.py",),
    ),
    Mutant(
        name="the database shows all tenants' rows",
        properties=(29,),
        file=THIRD_MIGRATION,
        old="    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))\n",
        new="    USING (true)\n",
        tests=("tests/contract/test_tenant_fence.py",),
    ),
    Mutant(
        name="the environment goes on to act for the caller before",
        properties=(29,),
        file="functions/api/operations.py",
        old="            fence = wired().acting_for(caller.tenant_id) if operation.scope else nullcontext()",
        new="            fence = nullcontext()",
        tests=(f"{UNIT}/test_api_access.py",),
    ),
    # -- and beyond -------------------------------------------------------------------------------
    Mutant(
        name="another tenant's run can be read",
        properties=(29,),
        file=f"{DOMAIN}/adapters/postgres/runs.py",
        old="            pipeline_runs.c.tenant_id == tenant_id\n        )\n        rows",
        new='            pipeline_runs.c.tenant_id != ""\n        )\n        rows',
        tests=(RUNS_CONTRACT,),
    ),
    Mutant(
        name="a REALTIME run is started again",
        properties=(31,),
        file=f"{DOMAIN}/outcomes.py",
        old="(PipelineMode.REALTIME, False): {**_LATER, Seen.ANSWER_LOST: Verdict.FAIL},",
        new="(PipelineMode.REALTIME, False): _LATER,",
        tests=(f"{UNIT}/test_submission_outcomes.py",),
    ),
    Mutant(
        name="a restored database gives ids once more",
        properties=(8,),
        file="infra/restored.py",
        old="            next_run_id=_move_ids_on(connection),",
        new="            next_run_id=last_run_id + 1,",
        tests=("tests/contract/test_restored.py",),
    ),
    Mutant(
        name="a copy shares its original's keys",
        properties=(8,),
        file="infra/restored.py",
        old="        connection.execute(sa.text(RENEW_NAMESPACE))\n",
        new="",
        tests=("tests/contract/test_restored.py",),
    ),
    Mutant(
        name="the purge takes events that nobody was told of",
        properties=(28,),
        file=f"{DOMAIN}/adapters/postgres/retention.py",
        old="WHERE run_id = run.id AND published_at IS NULL)",
        new="WHERE run_id = run.id AND false)",
        tests=("tests/contract/test_retention.py",),
    ),
    Mutant(
        name="the purge takes a run whose job is still hunted",
        properties=(9,),
        file=f"{DOMAIN}/adapters/postgres/retention.py",
        old="WHERE run_id = run.id AND next_look_at IS NOT NULL)",
        new="WHERE run_id = run.id AND false)",
        tests=("tests/contract/test_retention.py",),
    ),
    Mutant(
        name="a submission that is never given up",
        properties=(11, 32),
        file=f"{DOMAIN}/submission.py",
        old="if not running and known and now >= run.created_at + self.submit_deadline:",
        new="if not running and known and now < run.created_at:",
        tests=(f"{UNIT}/test_submission_outcomes.py",),
    ),
    Mutant(
        name="a run that has no time-out",
        properties=(32,),
        file=f"{DOMAIN}/deadlines.py",
        old="    return due is not None and now >= due and not run.cancel_requested_at\n",
        new="    return False\n",
        tests=(f"{UNIT}/test_deadlines.py",),
    ),
)
