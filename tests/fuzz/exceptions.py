"""What schemathesis takes for a failure and is none: each by name, with the reason."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from schemathesis.core.failures import ServerError
from schemathesis.openapi.checks import RejectedPositiveData, UnsupportedMethodResponse

if TYPE_CHECKING:
    from schemathesis import Response
    from schemathesis.core.failures import Failure

TOLD_IN_WORDS: Final = frozenset(
    {"/input_path_prefix", "/output_path_prefix", "/report_path_prefix", "/parameters"}
)
"""Fields whose limits no schema can tell; the refusal begins with the word `must`."""


def is_excepted(failure: Failure, response: Response) -> bool:
    """Whether no document could have told the caller better, or the API can't help it."""
    problem = problem_of(response)
    match failure:
        case RejectedPositiveData():
            return _is_beyond_a_schema(problem)
        case ServerError():
            # Word for word the original design: a run that can't be submitted is a documented 500.
            # It is kept, and the problem names it.
            return problem.get("code") == "submission_failed" and "pipeline_run_id" in problem
        case UnsupportedMethodResponse():
            # The gateway answers what the API doesn't declare, before it: API Gateway has no 405,
            # and LocalStack says 403. The API's own 405 is seen where no gateway is before it.
            return response.status_code == 403
    return False


def is_localstacks_own(response: Response) -> bool:
    """Whether LocalStack answered before any function: it reads forms itself, whatever the path.

    To a body that is called a multipart form and is none it says 400, without a word.
    """
    is_form = "multipart/form-data" in str(response.request.headers.get("Content-Type"))
    return is_form and response.status_code == 400 and not response.content


def leave_out_links_to_items(document: dict[str, Any]) -> None:
    """Takes the links from lists to their items out of a document: schemathesis draws its own.

    An empty list leads nowhere, which it takes for a fault of the document where one is written.
    """
    for methods in document["paths"].values():
        for told in methods.values():
            for answer in told["responses"].values():
                answer["links"] = {
                    name: link
                    for name, link in answer.get("links", {}).items()
                    if "/items/0/" not in str(link["parameters"])
                }


def problem_of(response: Response) -> dict[str, Any]:
    """The problem that an answer is; empty: none."""
    try:
        told = json.loads(response.content)
    except ValueError:
        return {}
    return told if isinstance(told, dict) and "code" in told else {}


def _is_beyond_a_schema(problem: dict[str, Any]) -> bool:
    """Whether a request was refused by what no schema says of it."""
    match problem.get("code"):
        case "invalid_page_token":
            # A page token is valid where it came from an answer to the same filters.
            return True
        case "idempotency_key_reused":
            # A key is valid with the body that it came with first.
            return True
        case "invalid_request":
            # Which buckets there are is a setting, and `..` may be encoded any number of times;
            # parameters have a size as JSON, and no NUL in any text at any depth.
            return all(
                fault["pointer"] in TOLD_IN_WORDS and fault["message"].startswith("must ")
                for fault in problem["errors"]
            )
    return False
