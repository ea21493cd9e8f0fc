"""What `template.yaml` must keep to. Each rule tells its violations, so that it can be tested too.

A rule is a function of the template, in CloudFormation's long form, to texts that name the
resource and what is wrong with it.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Final

from api import catalogue
from api.app import app
from api.operations import OPERATIONS
from api.problems import RETRY_AFTER_SECONDS
from runs import settings

Template = dict[str, Any]
Rule = Callable[[Template], Iterator[str]]

FUNCTION: Final = "AWS::Serverless::Function"
QUEUE: Final = "AWS::SQS::Queue"
ROLE: Final = "AWS::IAM::Role"
GATEWAY_SECONDS: Final = 29
"""API Gateway waits no longer."""
SETTINGS: Final = {
    "ApiFunction": settings.ApiSettings,
    "AuthorizerFunction": settings.TokenSettings,
    "TickFunction": settings.TickSettings,
    "CheckFunction": settings.CheckSettings,
    "RelayFunction": settings.RelaySettings,
    "HuntFunction": settings.HuntSettings,
    "SurveyFunction": settings.SurveySettings,
    "PurgeFunction": settings.PurgeSettings,
}
SCHEDULES: Final = {
    "TickFunction": "rate(1 minute)",
    "RelayFunction": "rate(1 minute)",
    "HuntFunction": "rate(1 minute)",
    "SurveyFunction": "rate(1 minute)",
    "PurgeFunction": "rate(1 hour)",
}
RETENTION_SECONDS: Final = {
    "CheckQueue": 300,
    "RetryQueue": 300,
    "TickQueue": 300,
    "CheckDlq": 14 * 24 * 3600,
}
DEAD_LETTERS_OF: Final = {"CheckQueue": "CheckDlq", "RetryQueue": "CheckDlq"}
RECEIVE: Final = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
BUCKETS: Final = ("arn:${AWS::Partition}:s3:::${StorageBucket}", "arn:aws:s3:::${Buckets}")
"""The one, and those that are allowed beside it."""
READ_SECRET: Final = ("secretsmanager:GetSecretValue", "ssm:GetParameter")
"""Which of them works is told by the ARN."""


def _reading(*secrets: str) -> set[tuple[str, str]]:
    return {(action, secret) for action in READ_SECRET for secret in secrets}


ALLOWED: Final = {
    "ApiFunction": {
        *_reading("ApiDatabaseSecretArn", "StorageSecretArn"),
        *_reading("ConductorTokenSecretArn", "WorkbenchTokenSecretArn"),
        *(("s3:ListBucket", bucket) for bucket in BUCKETS),
        *(("s3:GetObject", f"{bucket}/*") for bucket in BUCKETS),
        ("sqs:SendMessage", "CheckQueue.Arn"),
        ("events:PutEvents", "EventBus.Arn"),
    },
    "AuthorizerFunction": set(),
    "TickFunction": {
        *_reading("PollerDatabaseSecretArn"),
        *(("sqs:SendMessage", f"{queue}.Arn") for queue in ("CheckQueue", "RetryQueue")),
        *((action, "TickQueue.Arn") for action in RECEIVE | {"sqs:SendMessage"}),
    },
    "CheckFunction": {
        *_reading("PollerDatabaseSecretArn"),
        *_reading("ConductorTokenSecretArn", "WorkbenchTokenSecretArn"),
        *(
            (action, f"{queue}.Arn")
            for queue in ("CheckQueue", "RetryQueue")
            for action in RECEIVE | {"sqs:ChangeMessageVisibility"}
        ),
        ("sqs:SendMessage", "RetryQueue.Arn"),
        ("events:PutEvents", "EventBus.Arn"),
    },
    "RelayFunction": {
        *_reading("PollerDatabaseSecretArn"),
        ("events:PutEvents", "EventBus.Arn"),
    },
    "HuntFunction": _reading("PollerDatabaseSecretArn", "WorkbenchTokenSecretArn"),
    "SurveyFunction": _reading("PollerDatabaseSecretArn"),
    "PurgeFunction": _reading("PollerDatabaseSecretArn"),
}
"""What each function does with AWS, and so what its role allows (S13)."""
LOGS_NETWORK_AND_TRACES: Final = {
    f"arn:${{AWS::Partition}}:iam::aws:policy/{name}"
    for name in (
        "service-role/AWSLambdaBasicExecutionRole",
        "service-role/AWSLambdaVPCAccessExecutionRole",
        "AWSXRayDaemonWriteAccess",
    )
}
"""SAM gives what tracing needs to roles of its own making alone."""
NAMES: Final = {"FunctionName", "QueueName", "RoleName", "LogGroupName", "AlarmName"}
SECRET_TEXTS: Final = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN|://[^/\s:${}]+:[^@\s]+@(?!host\b)|(?i:password|secret|token)\s*="
)


# -- functions ------------------------------------------------------------------------------------


def handlers_are_there(template: Template) -> Iterator[str]:
    """Each handler string leads to something that can be called."""
    for name, function in _functions(template):
        module, _, attribute = function["Handler"].rpartition(".")
        try:
            found = callable(getattr(importlib.import_module(module), attribute, None))
        except ImportError:
            found = False
        if not found:
            yield f"{name}: {function['Handler']} is no handler"


def variables_are_the_settings(template: Template) -> Iterator[str]:
    """Each function is given exactly what its settings read, and none of it word for word."""
    shared = template["Globals"]["Function"]["Environment"]["Variables"]
    for name, function in _functions(template):
        given = shared | function.get("Environment", {}).get("Variables", {})
        read = {field.name.upper() for field in fields(SETTINGS[name])}
        for variable in sorted(given.keys() ^ read):
            yield f"{name}: {variable} is {'not read' if variable in given else 'not given'}"
        for variable, value in given.items():
            if not isinstance(value, dict):
                yield f"{name}: {variable} is fixed to {value}"


def functions_are_built_alike(template: Template) -> Iterator[str]:
    """By the Makefile in `functions/`, for the one runtime, into one artifact."""
    shared = template["Globals"]["Function"]
    if (shared["Runtime"], shared["CodeUri"]) != ("python3.13", "functions/"):
        yield f"Globals: {shared['Runtime']} from {shared['CodeUri']}"
    for name, resource in _resources(template, FUNCTION):
        if resource.get("Metadata") != {"BuildMethod": "makefile"}:
            yield f"{name}: isn't built by the Makefile"
        if resource["Properties"].keys() & {"Runtime", "CodeUri", "Layers", "Architectures"}:
            yield f"{name}: has code of its own"


def logs_are_kept_for_a_while(template: Template) -> Iterator[str]:
    """Every function writes to a group that forgets."""
    groups = {
        name: group["Properties"] for name, group in _resources(template, "AWS::Logs::LogGroup")
    }
    for name, group in groups.items():
        if "RetentionInDays" not in group:
            yield f"{name}: keeps its lines for ever"
    shared = template["Globals"]["Function"]
    for name, function in _functions(template):
        logging = function.get("LoggingConfig") or shared.get("LoggingConfig", {})
        if logging.get("LogGroup", {}).get("Ref") not in groups:
            yield f"{name}: writes to no group of ours"


def nothing_is_named(template: Template) -> Iterator[str]:
    """Two installations fit into one account: no name is fixed."""
    for name, resource in template["Resources"].items():
        for fixed in sorted(NAMES & resource.get("Properties", {}).keys()):
            yield f"{name}: {fixed} is fixed"
    for name, bus in _resources(template, "AWS::Events::EventBus"):
        if "${AWS::StackName}" not in str(bus["Properties"]["Name"]):
            yield f"{name}: its name is fixed"


# -- routes ---------------------------------------------------------------------------------------


def routes_are_the_apps(template: Template) -> Iterator[str]:
    """API Gateway has the routes that Chalice has."""
    declared = set(_routes(template))
    served = {(method, path) for path, methods in app.routes.items() for method in methods}
    for method, path in sorted(declared - served):
        yield f"{method} {path} is served by nobody"
    for method, path in sorted(served - declared):
        yield f"{method} {path} is not declared"


def strangers_are_turned_away(template: Template) -> Iterator[str]:
    """S1: API Gateway asks the authorizer for every route, but for those that need no token."""
    for name, api in _resources(template, "AWS::Serverless::Api"):
        auth = api["Properties"].get("Auth", {})
        chosen = auth.get("Authorizers", {}).get(auth.get("DefaultAuthorizer"), {})
        if not _told(chosen.get("FunctionArn", {})).startswith("AuthorizerFunction"):
            yield f"{name}: lets everybody in"
    open_routes = {(one.method, one.path) for one in OPERATIONS if one.scope is None}
    for name, function in _functions(template):
        for event in function.get("Events", {}).values():
            if event["Type"] != "Api":
                continue
            told = event["Properties"]
            route = (told["Method"], told["Path"])
            if (told.get("Auth") == {"Authorizer": "NONE"}) is not (route in open_routes):
                yield f"{name}: {' '.join(route)} is {'closed' if route in open_routes else 'open'}"


def siblings_share_a_variable(template: Template) -> Iterator[str]:
    """API Gateway allows one name for the variable at a place in a path."""
    names: dict[tuple[str, ...], set[str]] = {}
    for _, path in _routes(template):
        steps = path.split("/")
        for number, step in enumerate(steps):
            if step.startswith("{"):
                names.setdefault(tuple(steps[:number]), set()).add(step)
    for before, variables in names.items():
        if len(variables) > 1:
            yield f"{'/'.join(before)}/ is followed by {' and '.join(sorted(variables))}"


def gateway_speaks_problems(template: Template) -> Iterator[str]:
    """What API Gateway answers by itself is a problem with the true status (P30)."""
    for name, api in _resources(template, "AWS::Serverless::Api"):
        answers = api["Properties"].get("GatewayResponses", {})
        for kind in sorted({"DEFAULT_4XX", "DEFAULT_5XX"} - answers.keys()):
            yield f"{name}: {kind} is API Gateway's own"
        for kind, answer in answers.items():
            yield from (f"{name}: {kind}: {fault}" for fault in _faults_of(answer))


def callers_try_again_if_tokens_cant_be_checked(template: Template) -> Iterator[str]:
    """An authorizer that fails is answered as the API answers it, not as a bug (P30).

    It has two names for that, and which of them it takes when the function raises isn't documented.
    """
    for name, api in _resources(template, "AWS::Serverless::Api"):
        for kind in ("AUTHORIZER_FAILURE", "AUTHORIZER_CONFIGURATION_ERROR"):
            answer = api["Properties"].get("GatewayResponses", {}).get(kind, {})
            headers = answer.get("ResponseParameters", {}).get("Headers", {})
            if answer.get("StatusCode") != catalogue.TOKENS_UNAVAILABLE.status:
                yield f"{name}: {kind} is answered {answer.get('StatusCode')}"
            elif headers.get("Retry-After") != f"'{RETRY_AFTER_SECONDS}'":
                yield f"{name}: {kind} does not tell when to try again"


def api_answers_in_time(template: Template) -> Iterator[str]:
    """The API's function ends before API Gateway gives up, and its wait before the function."""
    for name, function in _functions(template):
        serves = any(event["Type"] == "Api" for event in function.get("Events", {}).values())
        if serves and function["Timeout"] > GATEWAY_SECONDS:
            yield f"{name}: may take {function['Timeout']} s"
        longest_wait = template["Parameters"]["SubmitWaitSeconds"]["MaxValue"]
        if serves and longest_wait + 10 > function["Timeout"]:
            yield f"{name}: may wait {longest_wait} s"


# -- time -----------------------------------------------------------------------------------------


def schedules_are_never_repeated(template: Template) -> Iterator[str]:
    """What a schedule starts is not tried again: the next minute is the retry."""
    once = {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}
    for name, function in _functions(template):
        rules = [
            event for event in function.get("Events", {}).values() if event["Type"] == "Schedule"
        ]
        for rule in rules:
            if rule["Properties"]["Schedule"] != SCHEDULES.get(name):
                yield f"{name}: runs at {rule['Properties']['Schedule']}"
            if rule["Properties"].get("RetryPolicy") != once:
                yield f"{name}: its rule tries again"
        if rules and function.get("EventInvokeConfig") != once:
            yield f"{name}: its invocation is tried again"
    scheduled = {
        name
        for name, function in _functions(template)
        for event in function.get("Events", {}).values()
        if event["Type"] == "Schedule"
    }
    yield from (f"{name}: has no schedule" for name in SCHEDULES.keys() - scheduled)


# -- queues ---------------------------------------------------------------------------------------


def batches_fail_in_part(template: Template) -> Iterator[str]:
    """F42: where messages may come to a DLQ, a poison one doesn't take its batch along."""
    for name, queue, mapping in _mappings(template):
        partial = mapping.get("FunctionResponseTypes") == ["ReportBatchItemFailures"]
        if queue in DEAD_LETTERS_OF and not partial:
            yield f"{name}: fails for all messages of {queue} at once"
    mapped = {queue for _, queue, _ in _mappings(template)}
    yield from (f"{queue}: is read by nobody" for queue in sorted(DEAD_LETTERS_OF.keys() - mapped))


def messages_stay_hidden_while_they_are_handled(template: Template) -> Iterator[str]:
    """F42: for six times the function's time-out, by AWS's rule."""
    for name, queue, _ in _mappings(template):
        timeout = template["Resources"][name]["Properties"]["Timeout"]
        hidden = template["Resources"][queue]["Properties"].get("VisibilityTimeout", 30)
        if hidden < 6 * timeout:
            yield f"{queue}: hides a message for {hidden} s and {name} may take {timeout} s"


def messages_are_kept_as_long_as_they_are_worth(template: Template) -> Iterator[str]:
    """Ours for five minutes, dead ones for as long as SQS can."""
    queues = {name: queue["Properties"] for name, queue in _resources(template, QUEUE)}
    for name in sorted(queues.keys() ^ RETENTION_SECONDS.keys()):
        yield f"{name}: {'is unknown' if name in queues else 'is missing'}"
    for name in sorted(queues.keys() & RETENTION_SECONDS.keys()):
        kept = queues[name].get("MessageRetentionPeriod")
        if kept != RETENTION_SECONDS[name]:
            yield f"{name}: keeps messages for {kept} s"


def poison_comes_to_the_dlq(template: Template) -> Iterator[str]:
    """After three tries."""
    for name, queue in _resources(template, QUEUE):
        policy = queue["Properties"].get("RedrivePolicy", {})
        dead = DEAD_LETTERS_OF.get(name)
        told = _told(policy["deadLetterTargetArn"]) if policy else None
        if told != (f"{dead}.Arn" if dead else None):
            yield f"{name}: its dead letters go to {told}"
        elif policy and policy["maxReceiveCount"] != 3:
            yield f"{name}: gives up after {policy['maxReceiveCount']} tries"


def queues_are_encrypted(template: Template) -> Iterator[str]:
    """S14: at rest by SQS's own keys, on the way by TLS."""
    only_tls = {
        _told(queue)
        for _, policy in _resources(template, "AWS::SQS::QueuePolicy")
        if any(map(_refuses_plain_text, policy["Properties"]["PolicyDocument"]["Statement"]))
        for queue in policy["Properties"]["Queues"]
    }
    for name, queue in _resources(template, QUEUE):
        if queue["Properties"].get("SqsManagedSseEnabled") is not True:
            yield f"{name}: lies in clear text"
        if name not in only_tls:
            yield f"{name}: can be reached without TLS"


# -- rights ---------------------------------------------------------------------------------------


def roles_allow_what_functions_do(template: Template) -> Iterator[str]:
    """S13: no more and no less, and each function has a role to itself."""
    roles = [_told(function["Role"]) for _, function in _functions(template)]
    if len(set(roles)) < len(roles):
        yield "a role is shared"
    for name, function in _functions(template):
        role = template["Resources"][_told(function["Role"]).removesuffix(".Arn")]
        allowed = set(_allowed(role))
        for action, resource in sorted(allowed - ALLOWED[name]):
            yield f"{name}: may {action} {resource}"
        for action, resource in sorted(ALLOWED[name] - allowed):
            yield f"{name}: may not {action} {resource}"
        managed = {_told(one) for one in _either(role["Properties"].get("ManagedPolicyArns", []))}
        for policy in sorted(managed ^ LOGS_NETWORK_AND_TRACES):
            yield f"{name}: {'has' if policy in managed else 'lacks'} {policy}"


def no_right_is_unbounded(template: Template) -> Iterator[str]:
    """S13: no `*` in what any policy allows, but for all objects of a bucket that is named."""
    for name, resource in template["Resources"].items():
        for statement in _statements(resource):
            told = json.dumps(statement)
            for bucket in BUCKETS:
                told = told.replace(f"{bucket}/*", "").replace("/*,arn:aws:s3:::", "")
            if statement["Effect"] == "Allow" and "*" in told:
                yield f"{name}: allows *"


def roles_are_lambdas_alone(template: Template) -> Iterator[str]:
    """Nobody else takes a function's role."""
    for name, role in _resources(template, ROLE):
        trust = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        if [one["Principal"] for one in trust] != [{"Service": "lambda.amazonaws.com"}]:
            yield f"{name}: may be taken by {trust}"


# -- secrets --------------------------------------------------------------------------------------


def secrets_are_elsewhere(template: Template) -> Iterator[str]:
    """S15: no secret in the template, and what may hold one is not shown."""
    for text in _texts(template):
        if SECRET_TEXTS.search(text):
            yield f"{text[:40]!r} looks like a secret"
    for name, parameter in template["Parameters"].items():
        if "url" in name.lower() and "password" in parameter.get("Description", ""):
            if parameter.get("NoEcho") is not True:
                yield f"{name}: is shown"
            if parameter.get("Default"):
                yield f"{name}: has a value"
    hidden = {name for name, one in template["Parameters"].items() if one.get("NoEcho")}
    for name, output in template.get("Outputs", {}).items():
        if hidden & set(re.findall(r"\w+", json.dumps(output["Value"]))):
            yield f"{name}: shows what is hidden"


RULES: Final[tuple[Rule, ...]] = (
    handlers_are_there,
    variables_are_the_settings,
    functions_are_built_alike,
    logs_are_kept_for_a_while,
    nothing_is_named,
    routes_are_the_apps,
    strangers_are_turned_away,
    siblings_share_a_variable,
    gateway_speaks_problems,
    callers_try_again_if_tokens_cant_be_checked,
    api_answers_in_time,
    schedules_are_never_repeated,
    batches_fail_in_part,
    messages_stay_hidden_while_they_are_handled,
    messages_are_kept_as_long_as_they_are_worth,
    poison_comes_to_the_dlq,
    queues_are_encrypted,
    roles_allow_what_functions_do,
    no_right_is_unbounded,
    roles_are_lambdas_alone,
    secrets_are_elsewhere,
)


# -- reading the template -------------------------------------------------------------------------


def _resources(template: Template, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == kind:
            yield name, resource


def _functions(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, function in _resources(template, FUNCTION):
        yield name, function["Properties"]


def _routes(template: Template) -> Iterator[tuple[str, str]]:
    for _, function in _functions(template):
        for event in function.get("Events", {}).values():
            if event["Type"] == "Api":
                yield event["Properties"]["Method"].upper(), event["Properties"]["Path"]


def _mappings(template: Template) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Function, queue and properties of each event source mapping."""
    for name, function in _functions(template):
        for event in function.get("Events", {}).values():
            if event["Type"] == "SQS":
                properties = event["Properties"]
                yield name, _told(properties["Queue"]).removesuffix(".Arn"), properties


def _told(value: Any) -> str:
    """A reference in short: `Queue`, `Queue.Arn`, or a text."""
    match value:
        case {"Ref": str() as name}:
            return name
        case {"Fn::GetAtt": [*steps]}:
            return ".".join(steps)
        case {"Fn::Sub": str() as text}:
            return text
        case {"Fn::Split": [_, {"Fn::Sub": [str() as text, _]}]}:
            return text
    return str(value)


def _either(values: Any) -> Iterator[Any]:
    """The items of a list, and of each conditional one both."""
    for value in values:
        match value:
            case {"Fn::If": [_, yes, no]}:
                yield from (one for one in (yes, no) if one != {"Ref": "AWS::NoValue"})
            case _:
                yield value


def _statements(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    properties = resource.get("Properties", {})
    documents = [properties.get("PolicyDocument"), properties.get("AssumeRolePolicyDocument")]
    documents += [one["PolicyDocument"] for one in _either(properties.get("Policies", []))]
    for document in documents:
        yield from document["Statement"] if document else ()


def _allowed(role: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Action and resource, of what its own policies allow."""
    for policy in _either(role["Properties"].get("Policies", [])):
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Allow":
                for action in _listed(statement["Action"]):
                    for resource in _listed(statement["Resource"]):
                        yield action, _told(resource)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _refuses_plain_text(statement: dict[str, Any]) -> bool:
    return (
        statement["Effect"] == "Deny"
        and statement["Principal"] == "*"
        and statement["Action"] == "sqs:*"
        and statement["Resource"] == "*"
        and statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
    )


def _faults_of(answer: dict[str, Any]) -> Iterator[str]:
    """What keeps an answer of API Gateway's own from being a problem."""
    headers = answer.get("ResponseParameters", {}).get("Headers", {})
    if headers.get("Content-Type") != "'application/problem+json'":
        yield "is no problem by its media type"
    if headers.get("Cache-Control") != "'no-store'":
        yield "may be stored"
    text = answer.get("ResponseTemplates", {}).get("application/json", "")
    try:
        body = json.loads(text.replace("$context.error.messageString", '"a message"'))
    except ValueError:
        yield "is no JSON"
        return
    if body.keys() != {"type", "title", "status", "detail", "code", "request_id"}:
        yield "lacks a member"
    elif body["status"] != answer.get("StatusCode"):
        yield "tells another status"
    elif body["type"] != f"urn:pipeline-runs:problem:{body['code']}":
        yield "is of another type"


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)
