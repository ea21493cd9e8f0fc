"""The same rules over a real Postgres, the real handlers and the mapping runner."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test

from real_parts import new_database
from real_world import RealWorld
from runs.status import PipelineRunStatus
from world_model import WorldModel

if TYPE_CHECKING:
    import sqlalchemy as sa

    from fakes import World

STEPS = 30


def test_p11_p15_the_real_parts_of_a_history_bring_a_run_to_its_end(postgres_url: sa.URL) -> None:
    """The machinery of the long proof below is looked at with every other test."""
    with new_database(postgres_url) as url, closing(RealWorld(url)) as world:
        run = world.submit()
        world.workbench.become("RUNNING", run=run.id)
        world.go_on(60)
        assert world.run(run.id).status is PipelineRunStatus.RUNNING
        world.workbench.become("COMPLETED", run=run.id)
        world.go_on(60)
        assert world.run(run.id).status is PipelineRunStatus.COMPLETED


@pytest.mark.prove  # About four seconds to a history.
def test_p1_to_p32_hold_in_every_history_on_real_parts(
    postgres_url: sa.URL, model_seed: int, histories: int
) -> None:
    class RealModel(WorldModel):
        """Each history has a database to itself."""

        def make_world(self) -> World:
            self.parts = ExitStack()
            world = RealWorld(self.parts.enter_context(new_database(postgres_url)))
            self.parts.callback(world.close)
            return world

        def teardown(self) -> None:
            with self.parts:
                super().teardown()

    run_state_machine_as_test(
        hypothesis.seed(model_seed)(RealModel),
        settings=hypothesis.settings(
            max_examples=histories,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=False,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
