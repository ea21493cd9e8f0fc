"""The Chalice app; Lambda's handler is `api.app.app`."""

from __future__ import annotations

from typing import Any

from chalice import Chalice, ConvertToMiddleware

from api import problems, routes_docs, routes_pipelines, routes_runs, routes_service
from runs import logs


class PipelineRunsApi(Chalice):
    """Chalice whose own errors are problems too."""

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """Lambda's entry."""
        answer = super().__call__(event, context)
        return problems.foreign_problem(answer, context.aws_request_id)


# The name is that of Chalice's logger: below `runs` it writes JSON lines as all others do.
app = PipelineRunsApi(app_name="runs.api", configure_logs=False)
app.register_middleware(ConvertToMiddleware(logs.logger().inject_lambda_context))
for module in (routes_pipelines, routes_runs, routes_service, routes_docs):
    app.register_blueprint(module.routes)
