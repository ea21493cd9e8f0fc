"""What schemathesis is told beside the document; it loads this module by its name.

The variable `FUZZ_PASS` names a file with the pass (`passes.Knowledge`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import schemathesis
from schemathesis.core.failures import Failure

from fuzz.exceptions import (
    is_excepted,
    is_localstacks_own,
    leave_out_links_to_items,
    problem_of,
)
from fuzz.passes import Knowledge

if TYPE_CHECKING:
    from schemathesis import Case, CheckContext, HookContext, Response

KNOWN: Final = Knowledge.read(Path(os.environ["FUZZ_PASS"]))
ONE_CLOSES_OF: Final = 16
"""Pipelines that would be disabled, or allow few runs."""
NOT_TOLD_BY: Final = frozenset({400, 413, 415, 422})
"""A request that is no good is refused before anybody looks whether its ids are there."""


@schemathesis.hook
def before_load_schema(_context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Leaves links out."""
    leave_out_links_to_items(raw_schema)


@schemathesis.hook
def filter_failure(
    _context: HookContext, failure: Failure, _case: Case[Any], response: Response
) -> bool:
    """Leaves out what is none."""
    return not is_excepted(failure, response)


@schemathesis.hook
def map_path_parameters(_context: HookContext, path_parameters: Any) -> Any:
    """Puts ids of the other tenant where a stranger asks."""
    if not isinstance(path_parameters, dict):
        return path_parameters
    return {name: _foreign(name, value) for name, value in path_parameters.items()}


@schemathesis.hook
def map_body(_context: HookContext, body: Any) -> Any:
    """The same in a body."""
    if not (isinstance(body, dict) and "pipeline_id" in body):
        return body
    return {**body, "pipeline_id": _foreign("pipeline_id", body["pipeline_id"])}


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    """Keeps most pipelines open; and shows a token that lacks the scope which the call takes."""
    body = case.body
    if isinstance(body, dict) and _closes_a_pipeline(body) and hash(str(body)) % ONE_CLOSES_OF:
        case.body = {**body, "enabled": True, "max_active_runs": None}
    if KNOWN.tokens_without:
        [scope] = case.operation.definition.raw["security"][0]["bearer"]
        case.headers["Authorization"] = f"Bearer {KNOWN.tokens_without[scope]}"


@schemathesis.check
def turned_away(_context: CheckContext, response: Response, case: Case[Any]) -> None:
    """Who doesn't belong is told so, and nothing else, whatever the request."""
    expected = KNOWN.expected_status
    if is_localstacks_own(response) or (expected == 404 and response.status_code in NOT_TOLD_BY):
        return
    problem = problem_of(response)
    told = (response.status_code, problem.get("status"))
    if told != (expected, expected) or (expected != 404 and not _tells_how(response)):
        raise Failure(
            operation=case.operation.label,
            title="Somebody who doesn't belong was let in",
            message=f"Expected the problem {expected}, and how to be let in; got {told}",
        )


def _closes_a_pipeline(body: dict[str, Any]) -> bool:
    """Whether hardly a run could be made of it any more, so that the tale of runs would be over."""
    return body.get("enabled") is False or isinstance(body.get("max_active_runs"), int)


def _tells_how(response: Response) -> bool:
    return any(value.startswith("Bearer ") for value in response.headers["www-authenticate"])


def _foreign(name: str, drawn: Any) -> Any:
    """One of the ids that the stranger knows, the same for the same draw; else what was drawn."""
    known = KNOWN.foreign_ids.get(name, [])
    return known[hash(str(drawn)) % len(known)] if known else drawn
