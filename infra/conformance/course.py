"""A trial from its beginning to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from infra.conformance.musts import ABOUT_ALL_ANSWERS, MUSTS
from infra.conformance.rules import judged
from infra.conformance.shoulds import SHOULDS
from infra.conformance.target import TargetTrouble
from infra.conformance.trial import NOBODYS_JOB, Trial
from infra.conformance.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.conformance.rules import Finding
    from infra.conformance.target import Target

RULES: Final = (*MUSTS, *SHOULDS, *ABOUT_ALL_ANSWERS)
NOT_LET_IN: Final = frozenset({401, 403})


def put_on_trial(target: Target, told: Callable[[Finding], None]) -> list[Finding]:
    """Judges a Workbench by all rules, in the order of `RULES`; its jobs are ended at last.

    Args:
        target: The Workbench.
        told: Called with each finding once there is one.

    Raises:
        TargetTrouble: nobody answers, or lets us in.
    """
    with Wire(target.url, target.token, answer_seconds=target.patience.answer) as wire:
        _knock(wire, target)
        trial = Trial(
            wire=wire,
            namespace=target.namespace,
            prefixes=target.prefixes,
            patience=target.patience,
            parameters=target.parameters,
            has_token=bool(target.token),
        )
        findings = []
        try:
            for finding in judged(trial, RULES):
                told(finding)
                findings.append(finding)
        finally:
            trial.clear_up()
        return findings


def _knock(wire: Wire, target: Target) -> None:
    answer = wire.call("GET", f"/batch/status/{NOBODYS_JOB}")
    if not answer.status:
        raise TargetTrouble(
            f"{target.url} can't be reached: {answer.trouble}.\n"
            "Start what should be there, or give another WORKBENCH_API_URL."
        )
    if answer.status in NOT_LET_IN:
        given = "another" if target.token else "its"
        raise TargetTrouble(
            f"{target.url} answers {answer.status}: give {given} token, WORKBENCH_TOKEN=…"
        )
