"""What to do about what went wrong, for people."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pipeline_runs import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

_SENTENCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "run_not_terminal": "Wait for its end, or cancel it first.",
        "idempotency_key_reused": "Take another --idempotency-key, or send what was sent before.",
        "pipeline_run_not_found": "Those that this token can see:",
        "pipeline_not_found": "Those that this token can see:",
        "pipeline_exists": "Those that there are:",
        "no_report": "Its outputs are there without --report.",
        "internal_error": "This is a fault of the service: tell its operators the request id.",
    }
)
_STEPS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pipeline_disabled": "pipeline-run pipelines enable PIPELINE",
        "run_not_terminal": "pipeline-run watch RUN",
        "pipeline_run_not_found": "pipeline-run list",
        "pipeline_not_found": "pipeline-run pipelines list",
        "pipeline_exists": "pipeline-run pipelines list",
    }
)


def sentences(error: errors.PipelineRunsError, *, near: bool) -> list[str]:
    """What a person has to know.

    Args:
        error: what went wrong.
        near: whether the API is on this machine.
    """
    match error:
        case errors.ApiUnreachable() if near:
            return ["It is on this machine: is the stack up? In its clone:"]
        case errors.TokenRefused() if near:
            return ["`make token` in the service's clone prints a new one; `make up` writes one."]
        case errors.TokenRefused():
            return ["Get a new token, and put it into PIPELINE_RUN_TOKEN or your profile."]
        case errors.WaitTimedOut():
            return ["The run goes on."]
        case errors.LimitReached() if error.retry_after_seconds:
            return [f"Try again in {error.retry_after_seconds:.0f} s."]
        case errors.ApiProblem() if error.code in _SENTENCES:
            return [_SENTENCES[error.code]]
        case _:
            return []


def steps(error: errors.PipelineRunsError, *, near: bool) -> list[str]:
    """Commands that help.

    Args:
        error: what went wrong.
        near: whether the API is on this machine.
    """
    match error:
        case errors.WaitTimedOut():
            return [f"pipeline-run watch {error.run.id}"]
        case errors.ApiUnreachable() if near:
            return ["make up", "pipeline-run doctor"]
        case errors.ApiProblem() if error.code in _STEPS:
            return [_STEPS[error.code]]
        case (
            errors.NotConfigured()
            | errors.ApiUnreachable()
            | errors.AnswerNotUnderstood()
            | errors.TokenRefused()
            | errors.ServiceUnavailable()
        ):
            return ["pipeline-run doctor"]
        case _:
            return []
