"""`template.yaml` keeps to every rule, and every rule can go red: each is shown what breaks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import template_rules as rules
from infra.local.template import load_template

TEMPLATE = load_template(Path(__file__).parents[2] / "template.yaml")
NOTHING = object()
"""Takes the member away."""

FUNCTIONS = ("ApiFunction", "TickFunction", "CheckFunction", "RelayFunction")
QUEUES = ("TickQueue", "CheckQueue", "RetryQueue", "CheckDlq")
ALLOW_ALL = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}


def changed(path: str, value: Any) -> rules.Template:
    """The template with one member set; a step of its path is a name, a number in a list, or +."""
    template: rules.Template = json.loads(json.dumps(TEMPLATE))  # Nothing in it is shared.
    *way, last = path.split("/")
    at: Any = template
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    if last == "+":
        at.append(value)
        return template
    key: Any = int(last) if isinstance(at, list) else last
    if value is NOTHING:
        del at[key]
    else:
        at[key] = value
    return template


def resource(name: str, path: str) -> str:
    return f"Resources/{name}/Properties/{path}"


def event(function: str, name: str, path: str) -> str:
    return resource(function, f"Events/{name}/Properties/{path}")


def variables(function: str) -> str:
    return resource(function, "Environment/Variables")


def route(function: str, name: str, path: str, method: str = "GET") -> tuple[str, object]:
    declared = {"Type": "Api", "Properties": {"Path": path, "Method": method}}
    return resource(function, f"Events/{name}"), declared


GATEWAY = resource("Api", "GatewayResponses")
ONE_STATEMENT = "PolicyDocument/Statement/0"
PURGE = {"Effect": "Allow", "Action": "sqs:PurgeQueue", "Resource": {"Ref": "CheckDlq"}}
NO_RETRY = {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}
SECOND_TRY = {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 1}
OLD_EVENT = {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 0}

BREACHES: dict[rules.Rule, list[tuple[str, object]]] = {
    rules.handlers_are_there: [
        (resource("ApiFunction", "Handler"), "api.app.handler"),
        (resource("TickFunction", "Handler"), "poller.tock.handler"),
        (resource("RelayFunction", "Handler"), "poller.relay.LOGGER"),
    ],
    rules.variables_are_the_settings: [
        *((f"{variables(name)}/SURPLUS", {"Ref": "Stage"}) for name in FUNCTIONS),
        (f"{variables('TickFunction')}/TICK_QUEUE_URL", NOTHING),
        (f"{variables('CheckFunction')}/RETRY_DELAY_SECONDS", NOTHING),
        (f"{variables('ApiFunction')}/STORAGE_BUCKET", "fixed"),
        ("Globals/Function/Environment/Variables/STAGE", NOTHING),
    ],
    rules.functions_are_built_alike: [
        ("Resources/RelayFunction/Metadata/BuildMethod", "python3.13"),
        ("Resources/ApiFunction/Metadata", NOTHING),
        (resource("ApiFunction", "CodeUri"), "functions/api/"),
        (resource("TickFunction", "Runtime"), "python3.11"),
        ("Globals/Function/Runtime", "python3.12"),
    ],
    rules.logs_are_kept_for_a_while: [
        (resource("Logs", "RetentionInDays"), NOTHING),
        ("Globals/Function/LoggingConfig", NOTHING),
        (resource("TickFunction", "LoggingConfig"), {"LogGroup": {"Ref": "Elsewhere"}}),
    ],
    rules.nothing_is_named: [
        *((resource(name, "FunctionName"), "fixed") for name in FUNCTIONS),
        *((resource(name, "QueueName"), "fixed") for name in QUEUES),
        (resource("ApiRole", "RoleName"), "fixed"),
        (resource("Logs", "LogGroupName"), {"Fn::Sub": "/aws/lambda/${ApiFunction}"}),
        (resource("EventBus", "Name"), "fixed"),
    ],
    rules.routes_are_the_apps: [
        (resource("ApiFunction", "Events/GetHealth"), NOTHING),
        (event("ApiFunction", "ChangePipeline", "Method"), "PUT"),
        (event("ApiFunction", "GetPipelineRun", "Path"), "/pipeline-run/{id}"),
        route("ApiFunction", "Everything", "/{proxy+}", "ANY"),
        route("ApiFunction", "More", "/pipeline", "DELETE"),
    ],
    rules.siblings_share_a_variable: [
        (event("ApiFunction", "ListPipelineRunEvents", "Path"), "/pipeline-run/{run_id}/events"),
        route("ApiFunction", "More", "/pipeline/{id}/runs"),
    ],
    rules.strangers_are_turned_away: [
        (resource("Api", "Auth"), NOTHING),
        (resource("Api", "Auth/DefaultAuthorizer"), NOTHING),
        (resource("Api", "Auth/Authorizers/BearerToken/FunctionArn"), {"Fn::GetAtt": "X.Arn"}),
        (resource("ApiFunction", "Events/GetHealth/Properties/Auth"), NOTHING),
        (
            resource("ApiFunction", "Events/GetPipelineRun/Properties/Auth"),
            {"Authorizer": "NONE"},
        ),
    ],
    rules.gateway_speaks_problems: [
        (f"{GATEWAY}/DEFAULT_4XX", NOTHING),
        (f"{GATEWAY}/DEFAULT_5XX", NOTHING),
        (resource("Api", "GatewayResponses"), NOTHING),
        (f"{GATEWAY}/THROTTLED/StatusCode", 503),
        (f"{GATEWAY}/DEFAULT_5XX/StatusCode", NOTHING),
        (f"{GATEWAY}/DEFAULT_4XX/ResponseParameters", NOTHING),
        (f"{GATEWAY}/DEFAULT_4XX/ResponseTemplates", NOTHING),
        (f"{GATEWAY}/DEFAULT_4XX/ResponseTemplates", {"application/json": '{"message": "no"}'}),
        (f"{GATEWAY}/ACCESS_DENIED/ResponseTemplates", {"application/json": '{"status": 403,}'}),
        (f"{GATEWAY}/ACCESS_DENIED/ResponseTemplates", {"application/json": '{"status": 403}'}),
    ],
    rules.callers_try_again_if_tokens_cant_be_checked: [
        (f"{GATEWAY}/AUTHORIZER_FAILURE", NOTHING),
        (f"{GATEWAY}/AUTHORIZER_CONFIGURATION_ERROR", NOTHING),
        (f"{GATEWAY}/AUTHORIZER_FAILURE/StatusCode", 500),
        (f"{GATEWAY}/AUTHORIZER_FAILURE/ResponseParameters/Headers/Retry-After", NOTHING),
        (f"{GATEWAY}/AUTHORIZER_FAILURE/ResponseParameters/Headers/Retry-After", "'60'"),
    ],
    rules.api_answers_in_time: [
        (resource("ApiFunction", "Timeout"), 30),
        (resource("ApiFunction", "Timeout"), 20),
        ("Parameters/SubmitWaitSeconds/MaxValue", 20),
    ],
    rules.schedules_are_never_repeated: [
        (event(name, "EveryMinute", "RetryPolicy"), breach)
        for name in ("TickFunction", "RelayFunction")
        for breach in (NOTHING, SECOND_TRY, OLD_EVENT)
    ]
    + [
        (resource(name, "EventInvokeConfig"), breach)
        for name in ("TickFunction", "RelayFunction")
        for breach in (NOTHING, SECOND_TRY, OLD_EVENT)
    ]
    + [
        (resource("TickFunction", "Events/EveryMinute"), NOTHING),
        (event("RelayFunction", "EveryMinute", "Schedule"), "rate(5 minutes)"),
    ],
    rules.batches_fail_in_part: [
        (event("CheckFunction", "Checks", "FunctionResponseTypes"), NOTHING),
        (event("CheckFunction", "Retries", "FunctionResponseTypes"), NOTHING),
        (event("CheckFunction", "Retries", "FunctionResponseTypes"), []),
        (resource("CheckFunction", "Events/Retries"), NOTHING),
    ],
    rules.messages_stay_hidden_while_they_are_handled: [
        (resource("CheckFunction", "Timeout"), 31),
        (resource("TickFunction", "Timeout"), 26),
        (resource("CheckQueue", "VisibilityTimeout"), 179),
        (resource("RetryQueue", "VisibilityTimeout"), 30),
        (resource("TickQueue", "VisibilityTimeout"), NOTHING),
    ],
    rules.messages_are_kept_as_long_as_they_are_worth: [
        *((resource(name, "MessageRetentionPeriod"), NOTHING) for name in QUEUES),
        (resource("CheckQueue", "MessageRetentionPeriod"), 345_600),
        (resource("CheckDlq", "MessageRetentionPeriod"), 300),
        ("Resources/Surplus", {"Type": "AWS::SQS::Queue", "Properties": {}}),
        ("Resources/RetryQueue", NOTHING),
    ],
    rules.poison_comes_to_the_dlq: [
        (resource("CheckQueue", "RedrivePolicy"), NOTHING),
        (resource("RetryQueue", "RedrivePolicy/maxReceiveCount"), 1_000),
        (
            resource("RetryQueue", "RedrivePolicy/deadLetterTargetArn"),
            {"Fn::GetAtt": ["CheckQueue", "Arn"]},
        ),
        (
            resource("TickQueue", "RedrivePolicy"),
            {"deadLetterTargetArn": {"Fn::GetAtt": ["CheckDlq", "Arn"]}, "maxReceiveCount": 3},
        ),
    ],
    rules.queues_are_encrypted: [
        *((resource(name, "SqsManagedSseEnabled"), NOTHING) for name in QUEUES),
        *((resource("TlsOnly", f"Queues/{number}"), NOTHING) for number in range(4)),
        ("Resources/TlsOnly", NOTHING),
        (resource("TlsOnly", f"{ONE_STATEMENT}/Effect"), "Allow"),
        (resource("TlsOnly", f"{ONE_STATEMENT}/Action"), "sqs:SendMessage"),
        (resource("TlsOnly", f"{ONE_STATEMENT}/Condition"), NOTHING),
    ],
    rules.roles_allow_what_functions_do: [
        *(
            (
                resource(name.replace("Function", "Role"), "Policies/+"),
                {"PolicyDocument": {"Statement": [PURGE]}},
            )
            for name in FUNCTIONS
        ),
        (resource("ApiRole", f"Policies/5/{ONE_STATEMENT}"), NOTHING),
        (resource("TickRole", f"Policies/1/{ONE_STATEMENT}/Resource/1"), NOTHING),
        (resource("CheckRole", f"Policies/3/{ONE_STATEMENT}/Action/3"), NOTHING),
        (resource("CheckRole", "Policies/0"), NOTHING),
        (
            resource("ApiRole", f"Policies/0/Fn::If/1/{ONE_STATEMENT}/Resource"),
            {"Ref": "PollerDatabaseSecretArn"},
        ),
        (
            resource("RelayRole", "ManagedPolicyArns/+"),
            "arn:aws:iam::aws:policy/AdministratorAccess",
        ),
        (resource("RelayFunction", "Role"), {"Fn::GetAtt": ["TickRole", "Arn"]}),
    ],
    rules.no_right_is_unbounded: [
        (resource("ApiRole", "Policies/5/PolicyDocument/Statement/+"), ALLOW_ALL),
        (resource("CheckRole", f"Policies/3/{ONE_STATEMENT}/Action"), "sqs:*"),
        (
            "Resources/Surplus",
            {
                "Type": "AWS::IAM::ManagedPolicy",
                "Properties": {"PolicyDocument": {"Statement": [ALLOW_ALL]}},
            },
        ),
    ],
    rules.roles_are_lambdas_alone: [
        (
            resource("ApiRole", "AssumeRolePolicyDocument/Statement/0/Principal"),
            {"AWS": "arn:aws:iam::000000000000:root"},
        ),
        (
            resource("TickRole", "AssumeRolePolicyDocument/Statement/+"),
            {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"},
        ),
    ],
    rules.secrets_are_elsewhere: [
        (f"{variables('ApiFunction')}/DATABASE_URL", "postgresql+pg8000://me:secret@db/runs"),
        (f"{variables('ApiFunction')}/KEY", "AKIAABCDEFGHIJKLMNOP"),
        *((f"Parameters/{name}DatabaseUrl/NoEcho", NOTHING) for name in ("Api", "Poller")),
        ("Parameters/PollerDatabaseUrl/Default", "postgresql://db/runs"),
        ("Outputs/Database", {"Value": {"Ref": "ApiDatabaseUrl"}}),
    ],
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_f42_the_template_keeps_to_the_rule(rule: rules.Rule) -> None:
    assert list(rule(TEMPLATE)) == []


@pytest.mark.parametrize(
    ("rule", "path", "value"),
    [
        pytest.param(rule, path, value, id=f"{rule.__name__}-{number}")
        for rule, breaches in BREACHES.items()
        for number, (path, value) in enumerate(breaches)
    ],
)
def test_f42_a_breach_of_the_rule_is_told(rule: rules.Rule, path: str, value: object) -> None:
    assert list(rule(changed(path, value)))


def test_f42_every_rule_is_shown_a_breach() -> None:
    assert set(rules.RULES) == BREACHES.keys()
    assert all(BREACHES.values())
