"""F33-F38: a database that is killed, changes sides, is full, is locked, or drops connections."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
import sqlalchemy as sa

from api_client import ApiClient
from fault_bench import POLL_INTERVAL
from fault_proxy import connecting, statement
from function_process import Function, FunctionPool
from infra.local.layout import Layout
from mapping_runner import Outcome
from real_parts import migrated, new_database, superuser
from runs.messages import CheckMessage
from runs.status import PipelineRunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from api_client import Answer
    from fault_bench import Bench
    from fault_proxy import Where
    from real_parts import RealPart

CREATED, SUBMITTED = PipelineRunStatus.CREATED, PipelineRunStatus.SUBMITTED
RUNNING, COMPLETED = PipelineRunStatus.RUNNING, PipelineRunStatus.COMPLETED
CANCELLED = PipelineRunStatus.CANCELLED
WHOLE_WAY: Final = [CREATED, SUBMITTED, RUNNING, COMPLETED]
READ: Final = statement("LEFT OUTER JOIN workbench_breakers")
MOVE: Final = statement("UPDATE pipeline_runs run SET status")
OBSERVE: Final = statement("INSERT INTO run_observations")
PUBLISHED: Final = statement("UPDATE pipeline_run_events event SET published_at")
RECORD: Final = statement("INSERT INTO idempotency_keys")
REQUEST_CANCEL: Final = statement("cancel_cause = 'USER'")
DEADLINE_SECONDS: Final = 20
AT_ONCE_SECONDS: Final = 2
LATEST: Final = POLL_INTERVAL + timedelta(seconds=15)
"""After its sweep a run's change is written by then."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPart]:
    """A server that no other tests use, for these kill it and change how it is set."""
    layout = Layout(tmp_path_factory.mktemp("mortal"))
    with migrated(layout) as real:
        yield real


@pytest.fixture
def database_url(server: RealPart) -> Iterator[sa.URL]:
    """The bench's database is on that server, and a new one for each test."""
    with new_database(superuser(server)) as url:
        yield url


@pytest.fixture
def checks(bench: Bench) -> Iterator[FunctionPool]:
    """The check as processes; nothing of theirs is shared."""
    function = Function(handler="poller.check.handler", variables=bench.environment)
    with FunctionPool(function) as pool:
        pool.warm(2)
        yield pool


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between two looks


def statuses(bench: Bench, run_ids: Sequence[int]) -> set[PipelineRunStatus]:
    return {bench.run(run_id).status for run_id in run_ids}


def get(bench: Bench, run_id: int) -> Answer:
    with bench.functions():
        return ApiClient().get(f"/pipeline-run/{run_id}")


def set_database(bench: Bench, setting: str) -> None:
    """For the sessions to come: `SET name = value` or `RESET name`."""
    bench.store.execute(f"ALTER DATABASE {bench.store.url.database} {setting}")


def sessions(bench: Bench, *, waiting_for: str = "%") -> list[int]:
    """The functions' sessions, or those that wait for something of a kind."""
    rows = bench.store.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'pipeline-runs' "
        "AND datname = current_database() AND COALESCE(wait_event_type, '') LIKE :kind",
        kind=waiting_for,
    )
    return [pid for (pid,) in rows]


def assert_unavailable(answer: Answer) -> None:
    answer.problem(503, "database_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def assert_nothing_waits(bench: Bench) -> None:
    for name in ("CheckQueue", "RetryQueue", "CheckDlq"):
        assert bench.queues.texts(name) == []


# -- killed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "is_back_at_once"),
    [
        pytest.param(READ, False, id="before its runs are read"),
        pytest.param(MOVE, False, id="before its changes are written"),
        pytest.param(MOVE, True, id="before its changes are written, and back at once"),
        pytest.param(OBSERVE, False, id="before its observations are written"),
        pytest.param(PUBLISHED, True, id="before it is noted what was told, and back at once"),
    ],
)
def test_f33_p19_what_is_lost_when_postgres_dies_in_mid_batch_is_repeated_and_nothing_done_twice(
    bench: Bench, checks: FunctionPool, server: RealPart, place: Where, *, is_back_at_once: bool
) -> None:
    runs = bench.fleet(8)
    bench.workbench.become("RUNNING")
    bench.sweep()
    runner = bench.runner("CheckQueue", checks.invoke, batch_size=4)

    with bench.to_database.hold(place) as gate, runner:
        bench.to_database.wait_for_calls(place, count=2)
        server.kill()
        if is_back_at_once:
            server.up()
        gate.end()
        runner.drain()
    server.up()
    bench.store.owner.dispose()

    assert [batch.error for batch in runner.batches] == [None] * len(runner.batches)
    assert {batch.outcome for batch in runner.batches} == {Outcome.SUCCEEDED}
    assert_nothing_waits(bench)
    bench.let_an_interval_pass()
    for run_id in runs:
        run = bench.run(run_id)
        assert (run.status, run.observation.upstream_status) == (RUNNING, "RUNNING")
    bench.workbench.become("COMPLETED")
    bench.let_an_interval_pass()
    assert [bench.history(run_id) for run_id in runs] == [WHOLE_WAY] * len(runs)
    assert [len(bench.workbench.jobs_of(run_id)) for run_id in runs] == [1] * len(runs)
    assert_nothing_waits(bench)
    bench.relay()
    told: set[tuple[int, int]] = set()

    def all_are_told() -> bool:
        told.update((event["run_id"], event["version"]) for event in bench.queues.told())
        return len(told) >= 2 * len(runs)

    eventually(all_are_told)
    assert told == {(run_id, version) for run_id in runs for version in (3, 4)}


# -- changes sides --------------------------------------------------------------------------------


def act_post(bench: Bench) -> None:
    answer = bench.post()
    assert answer.status == 201, answer.text
    assert len(bench.workbench.jobs_of(answer.json["id"])) == 1


def act_cancel(bench: Bench) -> None:
    [run_id] = bench.run_ids()
    assert bench.command(run_id, "cancel").status == 202
    assert bench.run(run_id).cancel_requested_at
    bench.until(run_id, CANCELLED, intervals=2)


def act_sweep(bench: Bench) -> None:
    bench.sweep()
    assert [message.message.run_ids for message in bench.sent("CheckQueue")] == [(1,)]
    bench.deliver()


def act_check(bench: Bench) -> None:
    bench.check(CheckMessage(run_ids=(1,), sent_at=bench.store.true_now()))
    assert bench.run(1).status is RUNNING


def act_relay(bench: Bench) -> None:
    bench.store.execute("UPDATE pipeline_run_events SET published_at = NULL")
    bench.move_time(POLL_INTERVAL)  # So their writer has had time to publish them.
    bench.relay()
    unpublished = "SELECT count(*) FROM pipeline_run_events WHERE published_at IS NULL"
    assert bench.store.execute(unpublished) == [(0,)]


ACTS: Final = [act_post, act_cancel, act_sweep, act_check, act_relay]


@pytest.mark.parametrize("act", ACTS)
def test_f34_p26_after_a_failover_a_function_leaves_the_read_only_server_and_succeeds(
    bench: Bench, act: Callable[[Bench], None]
) -> None:
    """The session of a warm environment is with what was the primary, and new ones are not."""
    [run_id] = bench.fleet(1)
    bench.workbench.become("RUNNING")
    set_database(bench, "SET default_transaction_read_only = on")
    assert get(bench, run_id).status == 200
    set_database(bench, "RESET default_transaction_read_only")
    before = len(bench.to_database.calls_of(connecting))

    act(bench)

    assert len(bench.to_database.calls_of(connecting)) == before + 1


def test_f34_p30_while_the_database_is_read_only_the_api_says_so_and_the_poller_waits(
    bench: Bench,
) -> None:
    [run_id] = bench.fleet(1)
    bench.workbench.become("COMPLETED")
    wish = bench.wish()
    bench.sweep()
    bench.close()
    set_database(bench, "SET default_transaction_read_only = on")

    assert_unavailable(bench.post(**wish))
    assert_unavailable(bench.command(run_id, "cancel"))
    assert get(bench, run_id).status == 200
    [batch] = bench.deliver()
    assert batch.outcome is Outcome.SUCCEEDED
    bench.sweep()
    bench.relay()
    assert bench.run_ids() == [run_id]
    assert bench.run(run_id).status is SUBMITTED
    assert_nothing_waits(bench)

    set_database(bench, "RESET default_transaction_read_only")
    bench.let_an_interval_pass()
    assert bench.run(run_id).status is COMPLETED
    assert bench.post(**wish).status == 201


# -- full -----------------------------------------------------------------------------------------


@contextmanager
def all_connections_taken(bench: Bench) -> Iterator[None]:
    """The functions' role may have one connection, and somebody else has it."""
    role = f"role_of_{bench.store.url.database}"
    bench.store.execute(
        f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1 PASSWORD 'p' IN ROLE api, poller"
    )

    def as_role(url: str | sa.URL) -> sa.URL:
        return sa.make_url(url).set(username=role, password="p")  # noqa: S106  # on loopback

    def sessions_of_role() -> list[Any]:
        return bench.store.execute("SELECT 1 FROM pg_stat_activity WHERE usename = :r", r=role)

    proxied = as_role(bench.to_database.url).render_as_string(hide_password=False)
    bench.close()
    bench.settings["DATABASE_URL"] = proxied
    engine = sa.create_engine(as_role(bench.store.url), poolclass=sa.NullPool)
    with engine.connect():
        yield
    eventually(lambda: not sessions_of_role())


def test_f35_p30_p20_without_a_free_connection_the_api_says_so_at_once_and_the_poller_waits(
    bench: Bench,
) -> None:
    [run_id] = bench.fleet(1)
    bench.workbench.become("COMPLETED")
    wish = bench.wish()
    bench.sweep()
    with all_connections_taken(bench):
        before = time.monotonic()
        refused = bench.post(**wish)
        assert time.monotonic() - before < AT_ONCE_SECONDS
        assert_unavailable(refused)
        assert_unavailable(get(bench, run_id))
        [batch] = bench.deliver()
        assert batch.outcome is Outcome.SUCCEEDED
        bench.sweep()
        bench.relay()
        bench.hunt()
        assert bench.run_ids() == [run_id]
        assert bench.run(run_id).status is SUBMITTED
        assert_nothing_waits(bench)

    bench.let_an_interval_pass()
    assert bench.run(run_id).status is COMPLETED
    assert bench.post(**wish).status == 201


# -- locked ---------------------------------------------------------------------------------------


def test_f36_p18_while_a_row_is_locked_the_other_runs_of_its_batch_are_written_on_time(
    bench: Bench, checks: FunctionPool
) -> None:
    """Whoever locks it holds it for longer than anybody waits: for all that is done in here."""
    runs = bench.fleet(8)
    locked, others = runs[0], runs[1:]
    bench.workbench.become("COMPLETED")
    bench.sweep()
    swept_at = bench.store.true_now()

    with bench.store.locked(locked):
        with bench.runner("CheckQueue", checks.invoke, batch_size=4) as runner:
            runner.drain()
        assert {batch.outcome for batch in runner.batches} == {Outcome.SUCCEEDED}
        for run_id in others:
            run = bench.run(run_id)
            assert run.status is COMPLETED
            assert run.completed_at
            assert run.completed_at < swept_at + LATEST
            assert run.observation.upstream_status == "COMPLETED"
        assert bench.run(locked).status is SUBMITTED
        assert_nothing_waits(bench)

    bench.let_an_interval_pass()
    assert [bench.history(run_id) for run_id in runs] == [WHOLE_WAY] * len(runs)


# -- dropped --------------------------------------------------------------------------------------


def killed_by_the_server(bench: Bench) -> None:
    for session in sessions(bench):
        bench.store.execute("SELECT pg_terminate_backend(:session)", session=session)
    eventually(lambda: not sessions(bench))


def reset_on_the_way(bench: Bench) -> None:
    bench.to_database.cut()


@pytest.mark.parametrize(
    ("act", "drop"),
    [*((act, killed_by_the_server) for act in ACTS), (act_post, reset_on_the_way)],
)
def test_f37_p26_after_an_idle_connection_was_killed_the_next_call_succeeds(
    bench: Bench, act: Callable[[Bench], None], drop: Callable[[Bench], None]
) -> None:
    [run_id] = bench.fleet(1)
    bench.workbench.become("RUNNING")
    assert get(bench, run_id).status == 200
    before = len(bench.to_database.calls_of(connecting))
    drop(bench)

    act(bench)

    assert len(bench.to_database.calls_of(connecting)) == before + 1


def test_f37_p26_after_an_idle_connection_was_forgotten_on_the_way_the_next_call_succeeds(
    bench: Bench,
) -> None:
    """As gateways do: nobody answers any more. It takes the socket's time-out of 8 s."""
    [run_id] = bench.fleet(1)
    assert get(bench, run_id).status == 200
    bench.to_database.black_hole(times=1)

    answer = get(bench, run_id)

    assert (answer.status, answer.json["id"]) == (200, run_id)


# -- in each other's way --------------------------------------------------------------------------


def test_f38_p18_a_batch_that_is_a_deadlocks_victim_is_written_at_the_second_try(
    bench: Bench,
) -> None:
    first, second = runs = bench.fleet(2)
    bench.workbench.become("RUNNING")
    bench.sweep()
    bench.deliver()
    bench.close()
    # Just less than the lock time-out: so long the other side has to close the circle.
    set_database(bench, "SET deadlock_timeout = '1800ms'")
    before = len(bench.to_database.calls_of(OBSERVE))
    message = CheckMessage(run_ids=tuple(runs), sent_at=bench.store.true_now())
    lock = sa.text("SELECT 1 FROM run_observations WHERE run_id = :id FOR UPDATE")

    with (
        ThreadPoolExecutor(1) as beside,
        bench.store.owner.connect() as hostile,
        hostile.execution_options(isolation_level="READ COMMITTED").begin(),
    ):
        hostile.execute(sa.text("SET LOCAL deadlock_timeout = '60s'"))
        hostile.execute(lock, {"id": second})
        checked = beside.submit(bench.check, message)
        eventually(lambda: sessions(bench, waiting_for="Lock"))
        with bench.to_database.hold(OBSERVE):  # Else the second try might overtake the other side.
            hostile.execute(lock, {"id": first})
            hostile.commit()
        checked.result(DEADLINE_SECONDS)

    assert len(bench.to_database.calls_of(OBSERVE)) == before + 2
    deadlocks = (
        "SELECT 1 FROM pg_stat_database WHERE datname = current_database() AND deadlocks = 1"
    )
    eventually(lambda: bench.store.execute(deadlocks))
    for run_id in runs:
        seen = bench.run(run_id).observation
        assert seen.last_checked_at
        assert seen.last_checked_at > message.sent_at


def test_f38_p23_a_command_that_cannot_be_serialized_succeeds_at_the_second_try(
    bench: Bench,
) -> None:
    [run_id] = bench.fleet(1)
    bench.workbench.become("RUNNING")
    set_database(bench, "SET default_transaction_isolation = 'repeatable read'")
    change = sa.text('UPDATE pipeline_runs SET tags = \'{"a": "b"}\' WHERE id = :id')

    with (
        ThreadPoolExecutor(1) as beside,
        bench.store.owner.connect() as other,
        other.execution_options(isolation_level="READ COMMITTED").begin(),
    ):
        other.execute(change, {"id": run_id})
        cancelled = beside.submit(bench.command, run_id, "cancel")
        eventually(lambda: sessions(bench, waiting_for="Lock"))
        other.commit()
        answer = cancelled.result(DEADLINE_SECONDS)

    assert answer.status == 202, answer.text
    assert len(bench.to_database.calls_of(REQUEST_CANCEL)) == 2
    assert bench.run(run_id).tags == {"a": "b"}
    bench.until(run_id, CANCELLED, intervals=2)


@pytest.mark.parametrize("code", ["40P01", "40001"])
def test_f38_p18_what_cannot_be_written_is_tried_twice_and_left_to_the_next_sweep(
    bench: Bench, code: str
) -> None:
    [run_id] = bench.fleet(1)
    bench.workbench.become("COMPLETED")
    wish = bench.wish()
    bench.store.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END $$"
    )
    bench.store.execute(
        "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON pipeline_runs "
        "FOR EACH ROW EXECUTE FUNCTION refuse()"
    )

    bench.sweep()
    [batch] = bench.deliver()
    refused = bench.post(**wish)

    assert batch.outcome is Outcome.SUCCEEDED
    assert_unavailable(refused)
    assert len(bench.to_database.calls_of(MOVE)) == 2
    assert len(bench.to_database.calls_of(RECORD)) == 2
    assert bench.run_ids() == [run_id]
    assert bench.history(run_id) == [CREATED, SUBMITTED]
    assert_nothing_waits(bench)
    bench.store.execute("DROP TRIGGER refuse ON pipeline_runs")
    bench.let_an_interval_pass()
    assert bench.history(run_id) == WHOLE_WAY
    assert bench.post(**wish).status == 201
