"""API Gateway's authorizer: turns away whoever has no valid token before the API is called.

It only says who calls. Its answer is kept for minutes and for all routes alike, so what a caller
may do is checked by the API itself, with the token, at every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runs import logs
from runs.errors import TokenRefused, TokensUnavailable
from runs.metrics import Metric
from runs.tracing import traced
from runs.wiring import wired

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@traced
@logs.logger().inject_lambda_context
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Lambda's entry, for a TOKEN authorizer.

    Raises:
        Exception: the one text that API Gateway answers 401 to.
        TokensUnavailable: no token can be checked now; the template has it answered 503.
    """
    scheme, _, token = str(event.get("authorizationToken", "")).partition(" ")
    try:
        caller = wired().tokens.caller_of(token.strip() if scheme.lower() == "bearer" else "")
    except TokenRefused as refused:
        logs.logger().info("token_refused", extra={"reason": str(refused)})
        raise Exception("Unauthorized") from None  # noqa: TRY002  # API Gateway's own word
    except TokensUnavailable as unavailable:
        logs.logger().error("request_without_keys_of_issuer", extra={"error": str(unavailable)})
        wired().meter.tell({Metric.SERVER_ERRORS: 1})  # The API itself is not asked.
        raise
    stage = "/".join(str(event["methodArn"]).split("/")[:2])
    allowed = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": f"{stage}/*"}
    return {
        "principalId": caller.subject,
        "policyDocument": {"Version": "2012-10-17", "Statement": [allowed]},
    }
