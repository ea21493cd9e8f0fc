"""The service itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api import catalogue
from api.answers import answered
from api.bodies import HealthBody, ServiceInfoBody
from api.operations import Routes
from runs.callers import Scope
from runs.wiring import wired

if TYPE_CHECKING:
    from chalice import Response

    from api.operations import Call, NoInput

routes = Routes(__name__)


@routes.operation(
    "GET",
    "/health",
    scope=None,
    answers={200: HealthBody},
    problems=[catalogue.DATABASE_UNAVAILABLE],
)
def get_health(_call: Call[NoInput]) -> Response:
    """Whether the database can be reached."""
    wired().runs.ping()
    return answered(200, HealthBody())


@routes.operation("GET", "/service-info", scope=Scope.RUNS_READ, answers={200: ServiceInfoBody})
def get_service_info(call: Call[NoInput]) -> Response:
    """The service's version and limits, and how the caller's runs fare."""
    settings = wired().api_settings
    overview = wired().overviews.overview(
        tenant_id=call.caller.tenant_id, workbench=settings.workbench_api_url
    )
    return answered(200, ServiceInfoBody.of(overview, settings))
