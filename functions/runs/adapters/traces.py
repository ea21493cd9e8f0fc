"""What is seen in a trace of the calls that go out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools import Tracer


@dataclass(frozen=True, slots=True)
class Followed:
    """A part of ours, each call of which is a subsegment: `Workbench.ask`.

    The SDK has patches of HTTP clients, too. They are not used: calls side by side in one event
    loop end each other's subsegments, and raise.
    """

    part: object
    name: str
    tracer: Tracer

    def __getattr__(self, method: str) -> Callable[..., Any]:
        """The part's method."""
        call = getattr(self.part, method)

        def followed(*args: Any, **kwargs: Any) -> Any:
            with self.tracer.provider.in_subsegment(f"{self.name}.{method}"):
                return call(*args, **kwargs)

        return followed
