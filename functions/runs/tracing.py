"""Traces: where a call spent its time, in other services too. By Powertools and X-Ray."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from runs.wiring import wired

if TYPE_CHECKING:
    from collections.abc import Callable


def traced(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The handler, each call a subsegment with its error if it has one.

    Without TRACING it is the handler alone, and nothing is loaded for it. What a handler answers is
    never part of a trace: it may be anybody's data.
    """

    @functools.wraps(handler)
    def call(event: Any, context: Any) -> Any:
        tracer = wired().tracer
        if tracer is None:
            return handler(event, context)
        return tracer.capture_lambda_handler(handler, capture_response=False)(event, context)

    return call
