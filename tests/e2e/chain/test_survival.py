"""Parts of the deployed stack are killed, with runs in every status: none is lost or doubled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from scripted_workbench import Answer, State, always, execute_and_drop, late

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chain import Chain

STATUSES = {"CREATED", "SUBMITTED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"}
FAILED = State("FAILED", error_message="row 7 is broken")
WITHIN_SECONDS = 120


@dataclass(frozen=True)
class Fleet:
    """Runs in every status.

    Attributes:
        ended: Those that have, as they are.
        ends: What the Workbench is going to tell of the others.
        unwanted: One more, whose cancel was accepted and has not reached the Workbench yet.
    """

    chain: Chain
    ended: Mapping[int, dict[str, Any]]
    ends: Mapping[int, State]
    unwanted: int

    @classmethod
    def of(cls, chain: Chain) -> Fleet:
        """Makes it."""
        workbench, pipeline_id = chain.workbench, chain.pipeline()
        states = [State("COMPLETED"), FAILED, State("CANCELLED"), *[State("RUNNING")] * 2]
        runs = [chain.submitted(pipeline_id) for _ in states]
        for run_id, state in zip(runs, states, strict=True):
            workbench.become(state.status, run=run_id, error_message=state.error_message)
        for run_id, state in zip(runs, states, strict=True):
            chain.wait_for_status(run_id, state.status)
        *ended, running, unwanted = runs
        # From here on nothing ends, and nothing begins.
        workbench.script(status=[always("QUEUED")], cancel=[always(Answer(500))])
        assert chain.api.post(f"/pipeline-run/{unwanted}/cancel").status_code == 202
        submitted = chain.submitted(pipeline_id)
        not_waited_for = chain.post(pipeline_id, Prefer="respond-async").json()["id"]
        workbench.script(submit=[execute_and_drop()])
        unresolved = chain.post(pipeline_id).json()["id"]
        ends = {
            running: FAILED,
            submitted: State("CANCELLED"),
            not_waited_for: State("COMPLETED"),
            unresolved: State("COMPLETED"),
        }
        now = {run_id: chain.run(run_id) for run_id in (*runs, *ends)}
        assert {run["status"] for run in now.values()} == STATUSES
        return cls(chain, {run_id: now[run_id] for run_id in ended}, ends, unwanted)

    def end_jobs(self) -> None:
        """Lets all jobs end, also those that are yet to be made, and the cancel through."""
        workbench = self.chain.workbench
        workbench.script(status=[], cancel=[])
        workbench.become("RUNNING", run=self.unwanted)
        for run_id, end in self.ends.items():
            workbench.script(run=run_id, status=[always(end)])

    def has_survived(self) -> None:
        """Every run comes to its end, with one job; those that had ended are as they were."""
        ends = {run_id: end.status for run_id, end in self.ends.items()}
        for run_id, end in (ends | {self.unwanted: "CANCELLED"}).items():
            run = self.chain.wait_for_status(run_id, end, within_seconds=WITHIN_SECONDS)
            [job] = self.chain.workbench.jobs_of(run_id)
            assert run["workbench_job_id"] == job.id
            assert job.status == end
        for run_id, before in self.ended.items():
            now = self.chain.run(run_id)
            assert {**now, "observation": None} == {**before, "observation": None}
            assert len(self.chain.workbench.jobs_of(run_id)) == 1


@pytest.mark.parametrize(
    # Conductor takes the longest to come back, and F48 ends it as well.
    "part",
    ["postgres", pytest.param("conductor", marks=pytest.mark.prove)],
)
def test_p8_p11_a_killed_server_costs_no_run(chain: Chain, part: str) -> None:
    fleet = Fleet.of(chain)
    chain.kill(part)
    fleet.end_jobs()
    chain.up()
    fleet.has_survived()


def test_p8_p11_functions_killed_at_work_cost_no_run(chain: Chain) -> None:
    fleet = Fleet.of(chain)
    asked = looks(chain)
    chain.workbench.script(status=[late(3)], bulk_status=[late(3)])
    chain.let_an_interval_pass()
    chain.workbench.wait_for(lambda: looks(chain) > asked)
    assert chain.kill_functions("poller.check.handler") >= 1
    assert chain.kill_functions("poller.tick.handler") >= 1
    assert chain.kill_functions("api.app.app") >= 1
    chain.api.get("/health")  # Whoever asks first is told of the crash.
    fleet.end_jobs()
    fleet.has_survived()


def test_f47_p8_p11_localstack_killed_and_deployed_again_costs_no_run(chain: Chain) -> None:
    fleet = Fleet.of(chain)
    functions = chain.stack.check_function_name
    chain.kill("localstack")
    fleet.end_jobs()
    chain.up()
    assert chain.stack.check_function_name != functions  # It is another deployment.
    fleet.has_survived()


@pytest.mark.prove
def test_f48_p8_p11_a_stack_that_was_down_costs_no_run(chain: Chain) -> None:
    fleet = Fleet.of(chain)
    chain.local.down()
    fleet.end_jobs()
    chain.up()
    fleet.has_survived()


def looks(chain: Chain) -> int:
    """How often the Workbench was asked about jobs."""
    return sum(len(chain.workbench.calls_of(kind)) for kind in ("status", "bulk_status"))
