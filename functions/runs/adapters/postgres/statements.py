"""The statements that change several tables at once, as SQL.

Sets travel as one JSON parameter each: one typed value, however many rows.

Behind row-level security the planner has no statistics of `status`, for comparing enums isn't
leakproof, and takes half of all runs for active. Where that would have it read the whole table,
it is `status_text` that is compared, beside `status` where that finds the index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

_MOMENT = sa.DateTime(timezone=True)


def _statement(sql: str, **types: TypeEngine[Any]) -> sa.TextClause:
    """SQL with its parameters' types: pg8000 must not guess them from the first value."""
    return sa.text(sql).bindparams(*(sa.bindparam(n, type_=t) for n, t in types.items()))


RECORD = _statement(
    """
    WITH new AS MATERIALIZED (
        SELECT nextval(pg_get_serial_sequence('pipeline_runs', 'id')) AS run_id, pipelines.*
        FROM pipelines WHERE id = :pipeline_id AND tenant_id = :tenant_id
    ), keyed AS (
        INSERT INTO idempotency_keys (tenant_id, route, key, fingerprint, run_id)
        SELECT tenant_id, :route, :key, :fingerprint, run_id FROM new
        ON CONFLICT DO NOTHING
        RETURNING run_id, admit_run(:pipeline_id, :tenant_id, :most_active) AS admitted
    ), run AS (
        INSERT INTO pipeline_runs (
            id, tenant_id, pipeline_id, mode, workflow_name, workflow_version,
            user_storage_input_path_prefix, user_storage_output_path_prefix,
            user_storage_report_path_prefix, parameters, tags, timeout_seconds, retry_of,
            request_id, submit_lease_until, submit_attempts)
        SELECT
            run_id, tenant_id, id, mode, workflow_name, workflow_version,
            :input_path_prefix, :output_path_prefix,
            :report_path_prefix, CAST(:parameters AS jsonb), CAST(:tags AS jsonb),
            COALESCE(:timeout_seconds, timeout_seconds, :default_timeout_seconds), :retry_of,
            :request_id, runs_now() + :lease, CASE WHEN :lease IS NULL THEN 0 ELSE 1 END
        FROM new JOIN keyed USING (run_id) WHERE admitted
        RETURNING *
    ), event AS (
        INSERT INTO pipeline_run_events (run_id, version, tenant_id, status, at)
        SELECT id, version, tenant_id, status, created_at FROM run
    )
    SELECT run.*, CAST(installation.namespace AS text) || '-' || run.id AS correlation_id
    FROM run CROSS JOIN installation
    """,
    pipeline_id=sa.BigInteger(),
    tenant_id=sa.Text(),
    route=sa.Text(),
    key=sa.Text(),
    fingerprint=sa.Text(),
    input_path_prefix=sa.Text(),
    output_path_prefix=sa.Text(),
    report_path_prefix=sa.Text(),
    parameters=sa.Text(),
    tags=sa.Text(),
    timeout_seconds=sa.Integer(),
    default_timeout_seconds=sa.Integer(),
    most_active=sa.Integer(),
    retry_of=sa.BigInteger(),
    request_id=sa.Text(),
    lease=sa.Interval(),
)
"""Writes a run, its key, its first event and its lease; no row if the key or no pipeline exists.

Only of a key that is really written it is asked whether the run is admitted.
"""

MOVE = """
    WITH change AS (
        SELECT * FROM jsonb_to_recordset(CAST(:changes AS jsonb)) AS change (
            run_id bigint, seen_version integer, seen_status pipeline_run_status,
            path pipeline_run_status[], workbench_job_id text, conductor_workflow_id text,
            error_code text, error_category text, error_message text, output jsonb,
            stray_reason text, stray_job_ids jsonb)
    ), taken AS (
        SELECT run.id FROM pipeline_runs run JOIN change ON run.id = change.run_id
            AND run.version = change.seen_version AND run.status = change.seen_status
        ORDER BY run.id FOR NO KEY UPDATE OF run {when_locked}
    ), moved AS (
        UPDATE pipeline_runs run SET
            status = path[cardinality(path)],
            version = run.version + cardinality(path),
            workbench_job_id = COALESCE(run.workbench_job_id, change.workbench_job_id),
            conductor_workflow_id =
                COALESCE(change.conductor_workflow_id, run.conductor_workflow_id),
            error_code = change.error_code,
            error_category = change.error_category,
            error_message = change.error_message,
            output = COALESCE(change.output, run.output),
            started_at = CASE WHEN 'SUBMITTED' = ANY (path)
                THEN GREATEST(runs_now(), run.updated_at) ELSE run.started_at END,
            completed_at = CASE
                WHEN path[cardinality(path)] IN ('COMPLETED', 'FAILED', 'CANCELLED')
                THEN GREATEST(runs_now(), run.updated_at) END,
            updated_at = GREATEST(runs_now(), run.updated_at),
            submit_lease_until = NULL
        FROM change, taken
        WHERE run.id = change.run_id AND run.id = taken.id
            AND run.version = change.seen_version AND run.status = change.seen_status
        RETURNING run.id AS run_id, run.tenant_id, run.pipeline_id, run.tags, run.updated_at,
            change.seen_version, change.seen_status, change.path, change.error_message,
            change.stray_reason, change.stray_job_ids
    ), event AS (
        INSERT INTO pipeline_run_events (
            run_id, version, tenant_id, previous_status, status, at, error)
        SELECT run_id, seen_version + step, tenant_id,
            CASE WHEN step = 1 THEN seen_status ELSE path[step - 1] END, path[step], updated_at,
            CASE WHEN path[step] = 'FAILED' THEN error_message END
        FROM moved CROSS JOIN LATERAL generate_series(1, cardinality(path)) AS step
        RETURNING run_id, version, previous_status, status, at, error
    ), stray AS (
        INSERT INTO stray_checks AS noted (run_id, tenant_id, reason, job_ids)
        SELECT run_id, tenant_id, stray_reason, stray_job_ids FROM moved
        WHERE stray_reason IS NOT NULL
        ON CONFLICT (run_id) DO UPDATE SET
            reason = EXCLUDED.reason, job_ids = noted.job_ids || EXCLUDED.job_ids,
            created_at = EXCLUDED.created_at, looks = 0, next_look_at = EXCLUDED.next_look_at
    )
    SELECT event.*, moved.pipeline_id, moved.tags
    FROM event JOIN moved USING (run_id) ORDER BY run_id, version
    """
MOVE_WHAT_IS_FREE = _statement(MOVE.format(when_locked="SKIP LOCKED"), changes=sa.Text())
MOVE_AND_WAIT = _statement(MOVE.format(when_locked=""), changes=sa.Text())
"""Carries out transitions whose run is as it was seen, each with its events."""

OBSERVE = _statement(
    """
    WITH finding AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(CAST(:findings AS jsonb)) AS finding (
            run_id bigint, upstream_status text, progress_done bigint, progress_total bigint,
            logs_url text, trouble text, unknown_job boolean, is_last boolean,
            next_check_at timestamptz)
    ), taken AS (
        SELECT run.id FROM pipeline_runs run JOIN finding ON run.id = finding.run_id
        WHERE run.next_check_at IS DISTINCT FROM finding.next_check_at
            AND (run.status IN ('CREATED', 'SUBMITTED', 'RUNNING') OR finding.is_last)
        ORDER BY run.id FOR NO KEY UPDATE OF run SKIP LOCKED
    ), backed_off AS (
        UPDATE pipeline_runs run SET next_check_at = finding.next_check_at
        FROM finding, taken WHERE run.id = finding.run_id AND run.id = taken.id
    )
    INSERT INTO run_observations AS seen (
        run_id, tenant_id, last_checked_at, upstream_status, progress_done, progress_total,
        logs_url, consecutive_failures, last_error, unknown_since, unknown_count)
    SELECT run_id, run.tenant_id, CASE WHEN trouble IS NULL THEN runs_now() END,
        upstream_status, progress_done, progress_total, logs_url,
        CASE WHEN trouble IS NULL THEN 0 ELSE 1 END, trouble,
        CASE WHEN unknown_job AND upstream_status IS NULL THEN runs_now() END,
        CASE WHEN unknown_job AND upstream_status IS NULL THEN 1 ELSE 0 END
    FROM finding JOIN pipeline_runs run ON run.id = finding.run_id
        AND (run.status IN ('CREATED', 'SUBMITTED', 'RUNNING') OR finding.is_last)
    ORDER BY run_id
    ON CONFLICT (run_id) DO UPDATE SET
        last_checked_at = GREATEST(seen.last_checked_at, EXCLUDED.last_checked_at),
        upstream_status = COALESCE(EXCLUDED.upstream_status, seen.upstream_status),
        progress_done = COALESCE(EXCLUDED.progress_done, seen.progress_done),
        progress_total = COALESCE(EXCLUDED.progress_total, seen.progress_total),
        logs_url = COALESCE(EXCLUDED.logs_url, seen.logs_url),
        consecutive_failures = CASE WHEN EXCLUDED.last_error IS NULL THEN 0
            ELSE seen.consecutive_failures + 1 END,
        last_error = EXCLUDED.last_error,
        unknown_since = CASE
            WHEN EXCLUDED.last_error IS NOT NULL AND EXCLUDED.upstream_status IS NULL
            THEN COALESCE(seen.unknown_since, EXCLUDED.unknown_since) END,
        unknown_count = CASE
            WHEN EXCLUDED.last_error IS NOT NULL AND EXCLUDED.upstream_status IS NULL
            THEN seen.unknown_count + EXCLUDED.unknown_count ELSE 0 END
    """,
    findings=sa.Text(),
)
"""Writes what checks found out, and backs off the runs that gave trouble.

Of a run that has ended only the check that ended it is written: another may come late.
"""

CLAIM = _statement(
    """
    WITH clock AS (
        SELECT runs_now() AS now, statement_timestamp() <= :not_after AS in_time
    ), claimed AS (
        UPDATE poll_shards SET last_polled_at = clock.now FROM clock
        WHERE clock.in_time AND shard = ANY (CAST(CAST(:shards AS text) AS smallint[]))
            AND last_polled_at <= clock.now - :older_than
        RETURNING shard
    )
    SELECT clock.now, (SELECT count(*) FROM claimed) AS shards, due.id, due.troubled
    FROM clock LEFT JOIN (
        SELECT run.id, run.next_check_at IS NOT NULL AS troubled
        FROM claimed JOIN pipeline_runs run ON run.shard = claimed.shard CROSS JOIN clock
        WHERE run.status_text IN ('CREATED', 'SUBMITTED', 'RUNNING')
            AND (run.next_check_at IS NULL OR run.next_check_at <= clock.now)
            AND (run.submit_lease_until IS NULL OR run.submit_lease_until <= clock.now)
    ) AS due ON true
    """,
    not_after=_MOMENT,
    shards=sa.Text(),
    older_than=sa.Interval(),
)
"""Claims due shards and reads their due runs; one row without a run when there are none.

A tick's lateness is judged by the true time: tests move `runs_now()`, not the schedule.
"""

TAKE_SUBMIT_LEASE = _statement(
    """
    UPDATE pipeline_runs
    SET submit_lease_until = runs_now() + :lease, submit_attempts = submit_attempts + 1
    WHERE id = :run_id AND status = 'CREATED' AND version = :version
        AND (submit_lease_until IS NULL OR submit_lease_until <= runs_now())
        AND (cancel_requested_at IS NULL OR submit_attempts > 0)
    RETURNING id
    """,
    run_id=sa.BigInteger(),
    version=sa.Integer(),
    lease=sa.Interval(),
)

REQUEST_CANCEL = _statement(
    """
    UPDATE pipeline_runs SET cancel_requested_at = GREATEST(runs_now(), updated_at),
        cancel_cause = 'USER', cancel_reason = :reason
    WHERE id = :run_id AND tenant_id = :tenant_id AND cancel_requested_at IS NULL
        AND status IN ('CREATED', 'SUBMITTED', 'RUNNING')
    """,
    run_id=sa.BigInteger(),
    tenant_id=sa.Text(),
    reason=sa.Text(),
)

TIME_OUT = _statement(
    """
    WITH taken AS (
        SELECT id FROM pipeline_runs
        WHERE id IN (SELECT CAST(value AS bigint)
                FROM jsonb_array_elements_text(CAST(:run_ids AS jsonb)))
            AND cancel_requested_at IS NULL AND status IN ('SUBMITTED', 'RUNNING')
            AND runs_now() >= started_at + make_interval(secs => timeout_seconds)
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE pipeline_runs run
    SET cancel_requested_at = GREATEST(runs_now(), updated_at), cancel_cause = 'TIMEOUT'
    FROM taken WHERE run.id = taken.id
    """,
    run_ids=sa.Text(),
)
"""Marks runs whose time-out is over to be cancelled; a locked row is left to the next check."""

PRESSING = _statement(
    """
    SELECT id FROM pipeline_runs
    WHERE id IN (SELECT CAST(value AS bigint)
            FROM jsonb_array_elements_text(CAST(:run_ids AS jsonb)))
        AND (workbench_job_id IS NULL OR cancel_requested_at IS NOT NULL
            OR runs_now() >= started_at + make_interval(secs => timeout_seconds) + :outage)
    ORDER BY id
    """,
    run_ids=sa.Text(),
    outage=sa.Interval(),
)
"""Which runs are checked though the Workbench's breaker is open."""

BREAKER_ANSWERED = _statement(
    """
    INSERT INTO workbench_breakers AS breaker (workbench, last_valid_at)
    VALUES (:workbench, runs_now())
    ON CONFLICT (workbench) DO UPDATE SET
        last_valid_at = GREATEST(breaker.last_valid_at, EXCLUDED.last_valid_at),
        failing_since = NULL, opened_at = NULL, probe_at = NULL,
        closed_at = CASE WHEN breaker.opened_at IS NULL THEN breaker.closed_at ELSE runs_now() END
    WHERE breaker.opened_at IS NOT NULL OR breaker.failing_since IS NOT NULL
        OR breaker.last_valid_at IS NULL
        OR breaker.last_valid_at <= runs_now() - INTERVAL '5 seconds'
    """,
    workbench=sa.Text(),
)
"""Notes a valid answer and closes the breaker."""

BREAKER_FAILED = _statement(
    """
    INSERT INTO workbench_breakers AS breaker (workbench, failing_since)
    VALUES (:workbench, runs_now())
    ON CONFLICT (workbench) DO UPDATE SET
        failing_since = COALESCE(breaker.failing_since, runs_now()),
        opened_at = CASE
            WHEN breaker.opened_at IS NOT NULL THEN breaker.opened_at
            WHEN breaker.failing_since <= runs_now() - INTERVAL '60 seconds' AND (
                SELECT failed >= having_job
                    AND having_job > (CASE WHEN :only_unknown THEN 1 ELSE 0 END) FROM (
                    SELECT
                        (SELECT count(*) FROM (
                            SELECT 1 FROM pipeline_runs run JOIN run_observations seen
                                ON seen.run_id = run.id AND seen.consecutive_failures > 0
                            WHERE run.status IN ('SUBMITTED', 'RUNNING')
                                AND run.status_text IN ('SUBMITTED', 'RUNNING')
                                AND run.workbench_job_id IS NOT NULL LIMIT 10) AS ten) AS failed,
                        (SELECT count(*) FROM (
                            SELECT 1 FROM pipeline_runs run
                            WHERE run.status IN ('SUBMITTED', 'RUNNING')
                                AND run.status_text IN ('SUBMITTED', 'RUNNING')
                                AND run.workbench_job_id IS NOT NULL LIMIT 10) AS ten) AS having_job
                ) AS fleet)
            THEN runs_now() END
    WHERE breaker.last_valid_at IS NULL
        OR breaker.last_valid_at <= runs_now() - INTERVAL '5 seconds'
    """,
    workbench=sa.Text(),
    only_unknown=sa.Boolean(),
)
"""Notes failures, and opens the breaker if there is reason; it counts to ten at most."""

BREAKER_PROBES = _statement(
    """
    WITH turn AS (
        UPDATE workbench_breakers SET probe_at = runs_now() + :every
        WHERE workbench = :workbench AND opened_at IS NOT NULL
            AND (probe_at IS NULL OR probe_at <= runs_now())
        RETURNING workbench
    )
    SELECT probe.id FROM turn CROSS JOIN LATERAL (
        SELECT id, next_check_at FROM pipeline_runs
        WHERE status IN ('SUBMITTED', 'RUNNING') AND workbench_job_id IS NOT NULL
            AND cancel_requested_at IS NULL AND next_check_at <= runs_now()
        ORDER BY next_check_at, id LIMIT :most
    ) AS probe
    ORDER BY probe.next_check_at, probe.id
    """,
    workbench=sa.Text(),
    every=sa.Interval(),
    most=sa.Integer(),
)
"""Takes the turn to probe, and says whom: `next_check_at` is when a run in trouble was last asked.

Runs to be cancelled are left out, for they are asked in any case.
"""

HOLDER = _statement(
    """
    SELECT id FROM pipeline_runs
    WHERE workbench_job_id = :workbench_job_id AND status IN ('SUBMITTED', 'RUNNING')
    """,
    workbench_job_id=sa.Text(),
)

STRAYS_DUE = _statement(
    """
    WITH due AS (
        SELECT run_id FROM stray_checks WHERE next_look_at <= runs_now()
        ORDER BY next_look_at, run_id LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE stray_checks noted SET next_look_at = runs_now() + INTERVAL '1 minute'
    FROM due WHERE noted.run_id = due.run_id
    RETURNING noted.run_id, noted.job_ids, noted.looks, noted.created_at AS noted_at,
        noted.next_look_at AS claimed_until, runs_now() AS now
    """,
    most=sa.Integer(),
)

STRAY_LOOKED = _statement(
    """
    UPDATE stray_checks SET looks = :looks, jobs_cancelled = jobs_cancelled + :cancelled,
        next_look_at = :next_look_at
    WHERE run_id = :run_id AND created_at = :noted_at AND next_look_at = :claimed_until
    """,
    run_id=sa.BigInteger(),
    looks=sa.SmallInteger(),
    noted_at=_MOMENT,
    claimed_until=_MOMENT,
    cancelled=sa.Integer(),
    next_look_at=_MOMENT,
)
"""Notes a look, unless the note was renewed meanwhile."""

UNPUBLISHED = _statement(
    """
    SELECT event.run_id, event.version, event.previous_status, event.status, event.at, event.error,
        run.pipeline_id, run.tags
    FROM pipeline_run_events event JOIN pipeline_runs run ON run.id = event.run_id
    WHERE event.published_at IS NULL AND event.at <= runs_now() - INTERVAL '10 seconds'
    ORDER BY event.run_id, event.version LIMIT :most
    """,
    most=sa.Integer(),
)
"""What its writer had time to publish and did not."""

MARK_PUBLISHED = _statement(
    """
    UPDATE pipeline_run_events event SET published_at = runs_now()
    FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS taken (run_id bigint, version integer)
    WHERE event.run_id = taken.run_id AND event.version = taken.version
        AND event.published_at IS NULL
    """,
    events=sa.Text(),
)
