"""The Chalice app; Lambda's handler is `api.app.app`."""

from __future__ import annotations

from typing import Any

from chalice import Chalice, ConvertToMiddleware

from api import (
    problems,
    requests,
    routes_dashboard,
    routes_docs,
    routes_pipelines,
    routes_runs,
    routes_service,
)
from runs import logs
from runs.metrics import Metric
from runs.tracing import traced
from runs.wiring import wired


class PipelineRunsApi(Chalice):
    """Chalice whose own errors are problems too."""

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """Lambda's entry."""
        began = wired().clock()
        request_id = requests.request_id(event.get("headers"), context.aws_request_id)
        logs.logger().append_keys(request_id=request_id)
        answer = problems.foreign_problem(super().__call__(event, context), request_id)
        answer["headers"]["X-Request-Id"] = request_id
        failed = problems.is_of_the_service(answer)
        took = wired().clock() - began
        wired().meter.tell({Metric.REQUEST_TIME: took, Metric.SERVER_ERRORS: int(failed)})
        return answer


# The name is that of Chalice's logger: below `runs` it writes JSON lines as all others do.
app = PipelineRunsApi(app_name="runs.api", configure_logs=False)
app.register_middleware(ConvertToMiddleware(logs.logger().inject_lambda_context))
app.register_middleware(ConvertToMiddleware(traced))
for module in (routes_pipelines, routes_runs, routes_service, routes_docs, routes_dashboard):
    app.register_blueprint(module.routes)
