"""The service as a whole, over random histories: see `world_model`."""

from __future__ import annotations

import hypothesis
from hypothesis.stateful import run_state_machine_as_test

from world_model import WorldModel

STEPS = 30


def test_p1_to_p32_hold_in_every_history(model_seed: int, histories: int) -> None:
    class Seeded(WorldModel):
        """Each part of the histories begins with a seed of its own."""

    run_state_machine_as_test(
        hypothesis.seed(model_seed)(Seeded),
        settings=hypothesis.settings(
            max_examples=histories,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=False,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
