"""The functions' roles, row-level security as the second fence between tenants, and limits.

Expand only: the release before goes on as the owner, or as a user that was made a member of
`poller`. A later migration that makes a table has to fence it and to grant it by itself.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

MAKE_ROLE = """
DO $$ BEGIN
    CREATE ROLE {role} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- Roles are the cluster's: another database of it has made this one just now.
END $$
"""

PIPELINES = """
ALTER TABLE pipelines
    ADD COLUMN enabled boolean NOT NULL DEFAULT true,
    ADD COLUMN disabled_reason text,
    ADD COLUMN max_active_runs integer,
    ADD COLUMN timeout_seconds integer,
    ADD CONSTRAINT limit_in_range CHECK (max_active_runs >= 1) NOT VALID,
    ADD CONSTRAINT timeout_in_range CHECK (timeout_seconds BETWEEN 60 AND 2592000) NOT VALID;
COMMENT ON COLUMN pipelines.max_active_runs IS 'NULL: no limit.';
COMMENT ON COLUMN pipelines.timeout_seconds IS
    'What its runs have if they name none; NULL: the default of the service.';
"""

STATUS_TEXT = """
ALTER TABLE pipeline_runs ADD COLUMN status_text text NOT NULL GENERATED ALWAYS AS (
    CASE status WHEN 'CREATED' THEN 'CREATED' WHEN 'SUBMITTED' THEN 'SUBMITTED'
        WHEN 'RUNNING' THEN 'RUNNING' WHEN 'COMPLETED' THEN 'COMPLETED'
        WHEN 'FAILED' THEN 'FAILED' WHEN 'CANCELLED' THEN 'CANCELLED' END) STORED;
COMMENT ON COLUMN pipeline_runs.status_text IS
    'By it the fenced search: comparing enums is not leakproof, so that behind row-level security '
    'neither an index nor a statistic of status is used.';
"""

INDEXES = """
CREATE INDEX pipeline_runs_claimable ON pipeline_runs (shard, id)
    INCLUDE (next_check_at, submit_lease_until)
    WHERE status_text IN ('CREATED', 'SUBMITTED', 'RUNNING');
COMMENT ON INDEX pipeline_runs_claimable IS
    'Takes the place of pipeline_runs_active, by which the release before claims.';
CREATE INDEX pipeline_runs_active_of_pipeline ON pipeline_runs (tenant_id, pipeline_id)
    WHERE status_text IN ('CREATED', 'SUBMITTED', 'RUNNING');
CREATE INDEX pipeline_runs_by_status_text ON pipeline_runs (tenant_id, status_text, id);
CREATE INDEX pipeline_runs_by_pipeline_and_status ON pipeline_runs
    (tenant_id, pipeline_id, status_text, id);
CREATE INDEX pipeline_runs_by_job ON pipeline_runs (tenant_id, workbench_job_id, id)
    WHERE workbench_job_id IS NOT NULL;
CREATE INDEX pipeline_runs_by_creation ON pipeline_runs (tenant_id, created_at);
CREATE INDEX pipeline_runs_by_completion ON pipeline_runs (tenant_id, completed_at)
    INCLUDE (status_text) WHERE completed_at IS NOT NULL;
"""

ADMISSION = """
CREATE FUNCTION admit_run(of_pipeline bigint, of_tenant text, most_of_tenant integer)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    pipeline pipelines;
    facts jsonb := jsonb_build_object('pipeline_id', of_pipeline);
BEGIN
    SELECT * INTO pipeline FROM pipelines WHERE id = of_pipeline AND tenant_id = of_tenant;
    IF pipeline.max_active_runs IS NOT NULL THEN
        -- Who counts next waits here until this run is committed, and counts it.
        SELECT * INTO pipeline FROM pipelines WHERE id = of_pipeline AND tenant_id = of_tenant
            FOR NO KEY UPDATE;
    END IF;
    IF NOT pipeline.enabled THEN
        RAISE EXCEPTION 'the pipeline is disabled' USING ERRCODE = 'PR001',
            DETAIL = facts || jsonb_build_object('reason', pipeline.disabled_reason);
    END IF;
    IF pipeline.max_active_runs <= (SELECT count(*) FROM (
            SELECT FROM pipeline_runs
            WHERE tenant_id = of_tenant AND pipeline_id = of_pipeline
                AND status_text IN ('CREATED', 'SUBMITTED', 'RUNNING')
            LIMIT pipeline.max_active_runs) AS active) THEN
        RAISE EXCEPTION 'the pipeline is full' USING ERRCODE = 'PR002',
            DETAIL = facts || jsonb_build_object('limit', pipeline.max_active_runs);
    END IF;
    IF most_of_tenant IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(7161917, hashtext(of_tenant));
        IF most_of_tenant <= (SELECT count(*) FROM (
                SELECT FROM pipeline_runs
                WHERE tenant_id = of_tenant AND status_text IN ('CREATED', 'SUBMITTED', 'RUNNING')
                LIMIT most_of_tenant) AS active) THEN
            RAISE EXCEPTION 'the tenant is full' USING ERRCODE = 'PR003',
                DETAIL = jsonb_build_object('limit', most_of_tenant);
        END IF;
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION admit_run IS
    'Refuses a run of a disabled pipeline (PR001), or beyond the limit of active ones of its '
    'pipeline (PR002) or tenant (PR003), also of many at once: each statement in here sees what '
    'was committed before it began.';
"""

FENCED = (
    "pipelines",
    "pipeline_runs",
    "run_observations",
    "pipeline_run_events",
    "idempotency_keys",
    "stray_checks",
)
FENCE = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON {table} TO api
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY all_tenants ON {table} TO poller, {owner} USING (true);
"""

GRANTS = """
GRANT USAGE ON SCHEMA public TO api, poller;
GRANT SELECT ON installation, runs_clock, pipelines, pipeline_runs, run_observations,
    pipeline_run_events, stray_checks, workbench_breakers TO api, poller;
GRANT UPDATE ON pipeline_runs, stray_checks TO api, poller;
GRANT INSERT ON pipeline_run_events, stray_checks TO api, poller;
GRANT UPDATE (published_at) ON pipeline_run_events TO api, poller;

GRANT INSERT, UPDATE ON pipelines TO api;
GRANT INSERT ON pipeline_runs TO api;
GRANT SELECT, INSERT ON idempotency_keys TO api;
GRANT USAGE ON SEQUENCE pipelines_id_seq, pipeline_runs_id_seq TO api;

GRANT INSERT, UPDATE ON run_observations, workbench_breakers TO poller;
GRANT SELECT ON poll_shards TO api, poller;
GRANT UPDATE ON poll_shards TO poller;
"""


def upgrade() -> None:
    """Adds, fences and grants.

    Raises:
        PermissionError: a role is missing and must be made by somebody else; the text says how.
    """
    _make_roles()
    op.execute(PIPELINES)
    op.execute(STATUS_TEXT)
    op.execute(INDEXES)
    op.execute(ADMISSION)
    for table in FENCED:
        op.execute(FENCE.format(table=table, owner=_owner_of(table)))
    op.execute(GRANTS)


def _make_roles() -> None:
    bind = op.get_bind()
    there = set(bind.scalars(sa.text("SELECT rolname FROM pg_roles")))
    missing = [role for role in ("api", "poller") if role not in there]
    me = bind.execute(
        sa.text(
            "SELECT rolname, rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
    ).one()
    if missing and not me[1]:
        statements = " ".join(f"CREATE ROLE {role} NOLOGIN;" for role in missing)
        raise PermissionError(
            f"Database user {me[0]} may not create the roles that the functions' users belong to. "
            f"Have an administrator of the database server run: {statements}"
        )
    for role in missing:
        op.execute(MAKE_ROLE.format(role=role))


def _owner_of(table: str) -> str:
    """Quoted. As whom the foreign keys are checked, too."""
    query = "SELECT quote_ident(tableowner) FROM pg_tables WHERE tablename = :table"
    where = " AND schemaname = current_schema()"
    return str(op.get_bind().scalar(sa.text(query + where), {"table": table}))
