"""Schemathesis over the API in process, always with the same examples; see `make fuzz` (S21)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from api_contract import the_document
from fakes import TENANT, World
from fuzz.exceptions import is_excepted, leave_out_links_to_items
from runs.status import PipelineMode
from runs.wiring import using
from wired import SpokenTokens, WorldWiring
from wsgi_api import application

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis import Case, HookContext, Response
    from schemathesis.core.failures import Failure

    from runs.callers import Caller

EXAMPLES: Final = 10
WALKS: Final = 10
STEPS: Final = 6
TAKE_ANYTHING: Final = {"asset", "Authorization"}
"""Any text may be a file's name; and every call here shows the one token."""
UNHURRIED: Final = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[*HealthCheck],
)
SIGNED_IN: Final = {"Authorization": f"Bearer {TENANT}"}
DOCUMENT: Final = copy.deepcopy(the_document())
leave_out_links_to_items(DOCUMENT)
SCHEMA: Final = schemathesis.openapi.from_dict(
    DOCUMENT, config=schemathesis.Config.from_dict({"headers": SIGNED_IN})
)
SCHEMA.app = application
OPERATIONS: Final = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]


class OneToken(SpokenTokens):
    """Refuses the tokens that schemathesis makes up."""

    def caller_of(self, token: str) -> Caller:
        return super().caller_of(token if token == TENANT else "bad")


def cases() -> Iterator[Any]:
    """Every operation called rightly, and wrongly if there is anything to get wrong."""
    for operation in OPERATIONS:
        modes = [GenerationMode.POSITIVE]
        takes = {one.name for one in operation.iter_parameters()} - TAKE_ANYTHING
        if operation.body or takes:
            modes.append(GenerationMode.NEGATIVE)
        for mode in modes:
            yield pytest.param(operation, mode, id=f"{operation.label} {mode.value}")


@SCHEMA.hook
def filter_failure(
    _context: HookContext, failure: Failure, _case: Case[Any], response: Response
) -> bool:
    return not is_excepted(failure, response)


@pytest.fixture
def served() -> Iterator[None]:
    world = World()
    wiring = WorldWiring(world)
    wiring.tokens = OneToken()
    with using(wiring):
        for mode in PipelineMode:
            world.pipeline(mode)
        yield


@pytest.mark.parametrize(("operation", "mode"), [*cases()])
@pytest.mark.usefixtures("served")
def test_s21_every_operation_answers_by_the_document(
    operation: schemathesis.APIOperation[Any, Any, Any, Any], mode: GenerationMode
) -> None:
    @settings(UNHURRIED, max_examples=EXAMPLES)
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Case[Any]) -> None:
        case.call_and_validate(headers=SIGNED_IN)

    call()


@pytest.mark.usefixtures("served")
def test_s21_calls_that_lead_to_each_other_answer_by_the_document() -> None:
    walks = settings(UNHURRIED, max_examples=WALKS, stateful_step_count=STEPS)
    SCHEMA.as_state_machine().run(settings=walks)
