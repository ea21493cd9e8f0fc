"""What the template lets whom do (S12 to S15), beside what `test_template` holds it to already.

Each rule tells its violations, and is shown a breach that it has to notice.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from infra.local.template import load_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Template = dict[str, Any]
    Rule = Callable[[Template], Iterator[str]]
    Way = tuple[str | int, ...]
    """The steps to a member; "+" stands for the place behind a list's last."""

TEMPLATE: Final = load_template(Path(__file__).parents[2] / "template.yaml")
RECEIVE: Final = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
CHECKED_QUEUES: Final = ("CheckQueue", "RetryQueue")
OPENS_A_RESOURCE: Final = re.compile(
    r"AWS::(SQS::QueuePolicy|SQS::QueueInlinePolicy|Events::EventBusPolicy|SNS::TopicPolicy|"
    r"S3::BucketPolicy|SecretsManager::ResourcePolicy|Lambda::Permission|KMS::Key)"
)
"""A policy of the thing itself, which could let in others than our roles."""
EVENTS: Final = {
    "ApiFunction": {"Api"},
    "TickFunction": {"Schedule", "SQS"},
    "CheckFunction": {"SQS"},
    "RelayFunction": {"Schedule"},
    "HuntFunction": {"Schedule"},
    "SurveyFunction": {"Schedule"},
    "PurgeFunction": {"Schedule"},
}
"""What may start each function."""
SECRET_NAME: Final = re.compile(
    r"(password|secret|token|credentials?|(access|private|signing|api)_?key(_?id)?|database_?url)$",
    re.IGNORECASE,
)
"""What holds a secret, by its name; what ends in ARN only tells where one is."""


def resources(template: Template, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == kind:
            yield name, resource.get("Properties", {})


def functions(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from resources(template, "AWS::Serverless::Function")


def statements(value: Any) -> Iterator[dict[str, Any]]:
    """Every policy statement in it, however deep."""
    match value:
        case {"Effect": _}:
            yield value
        case dict():
            for inner in value.values():
                yield from statements(inner)
        case list():
            for inner in value:
                yield from statements(inner)


def rights(template: Template, role: str, service: str) -> set[tuple[str, str]]:
    """Action and resource, of what a role may do with a service."""
    found = set()
    for statement in statements(template["Resources"][role]["Properties"].get("Policies")):
        actions, targets = statement["Action"], statement["Resource"]
        for action in actions if isinstance(actions, list) else [actions]:
            for target in targets if isinstance(targets, list) else [targets]:
                named = target["Fn::GetAtt"][0] if "Fn::GetAtt" in target else json.dumps(target)
                if action.startswith(f"{service}:"):
                    found.add((action, named))
    return found


# -- the rules ------------------------------------------------------------------------------------


def the_tick_sends_and_reads_its_own_queue(template: Template) -> Iterator[str]:
    """S13: what fans out can't look into, or take away, what it has sent."""
    for action, queue in sorted(rights(template, "TickRole", "sqs")):
        own = queue == "TickQueue" and action in RECEIVE
        if not own and action != "sqs:SendMessage":
            yield f"the tick may {action} {queue}"
    for action, target in sorted(rights(template, "TickRole", "events")):
        yield f"the tick may {action} {target}"


def the_check_takes_and_only_tries_again(template: Template) -> Iterator[str]:
    """S13: it receives, deletes and changes; what it sends are the next tries."""
    taking = RECEIVE | {"sqs:ChangeMessageVisibility"}
    for action, queue in sorted(rights(template, "CheckRole", "sqs")):
        takes = queue in CHECKED_QUEUES and action in taking
        tries_again = (action, queue) == ("sqs:SendMessage", "RetryQueue")
        if not takes and not tries_again:
            yield f"the check may {action} {queue}"


def nobody_reads_dead_letters(template: Template) -> Iterator[str]:
    """S14: they are for people; SQS itself puts them there."""
    for name, _ in resources(template, "AWS::IAM::Role"):
        for action, queue in sorted(rights(template, name, "sqs")):
            if queue == "CheckDlq":
                yield f"{name}: may {action} the DLQ"


def rights_are_told_by_what_they_are(template: Template) -> Iterator[str]:
    """S13: whatever is allowed "but for" grows by itself with what there is."""
    for name, resource in template["Resources"].items():
        for statement in statements(resource):
            for word in sorted({"NotAction", "NotResource", "NotPrincipal"} & statement.keys()):
                yield f"{name}: {word}"


def rights_stand_with_the_roles(template: Template) -> Iterator[str]:
    """S13: SAM would make a role of a function's own policies, which no other rule sees."""
    for name, function in functions(template):
        if "Fn::GetAtt" not in function.get("Role", ()):
            yield f"{name}: has a role that SAM makes"
        for word in sorted({"Policies", "AssumeRolePolicyDocument"} & function.keys()):
            yield f"{name}: {word}"


def nothing_is_opened_to_others(template: Template) -> Iterator[str]:
    """S14: queues, bus and functions have no policy that lets in more than our roles may do."""
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Lambda::Permission":
            yield f"{name}: lets others call a function"
        if OPENS_A_RESOURCE.match(resource["Type"]):
            for statement in statements(resource):
                if statement["Effect"] != "Deny":
                    yield f"{name}: allows {statement.get('Principal')}"


def functions_start_for_what_is_theirs(template: Template) -> Iterator[str]:
    """S14: a function's address, or another event, would be one more way in."""
    for name, function in functions(template):
        kinds = {event["Type"] for event in function.get("Events", {}).values()}
        for kind in sorted(kinds - EVENTS.get(name, set())):
            yield f"{name}: starts for {kind}"
        if "FunctionUrlConfig" in function:
            yield f"{name}: has an address of its own"


def queues_are_reached_by_functions_alone(template: Template) -> Iterator[str]:
    """S14: the schedule starts the tick itself; no rule or topic sends to a queue."""
    queues = {name for name, _ in resources(template, "AWS::SQS::Queue")}
    for kind in ("AWS::Events::Rule", "AWS::SNS::Subscription", "AWS::Scheduler::Schedule"):
        for name, properties in resources(template, kind):
            told = set(re.findall(r"\w+", json.dumps(properties)))
            yield from (f"{name}: sends to {queue}" for queue in sorted(queues & told))


def the_api_is_fenced_from_the_poller(template: Template) -> Iterator[str]:
    """S12: its database user sees one tenant, theirs all; nobody here is the tables' owner."""
    for name, function in functions(template):
        user = "Api" if name == "ApiFunction" else "Poller"
        variables = function["Environment"]["Variables"]
        for variable, parameter in (
            ("DATABASE_URL", f"{user}DatabaseUrl"),
            ("DATABASE_SECRET_ARN", f"{user}DatabaseSecretArn"),
        ):
            # Whether it is there is its settings' business.
            if variables.get(variable, {"Ref": parameter}) != {"Ref": parameter}:
                yield f"{name}: {variable} is not {parameter}"
        own = json.dumps(variables.get("DATABASE_SECRET_ARN"))
        role = function["Role"]["Fn::GetAtt"][0]
        reading = rights(template, role, "secretsmanager") | rights(template, role, "ssm")
        for action, secret in sorted(reading):
            if "DatabaseSecretArn" in secret and secret != own:
                yield f"{name}: may {action} {secret}"
    for name in template["Parameters"]:
        if "Database" in name and not name.startswith(("Api", "Poller")):
            yield f"{name}: is of another user"


def secrets_are_hidden_and_given_at_deployment(template: Template) -> Iterator[str]:
    """S15: what may hold a secret is not shown, and holds none by itself."""
    for name, parameter in template["Parameters"].items():
        if SECRET_NAME.search(name):
            if parameter.get("NoEcho") is not True:
                yield f"{name}: is shown"
            if parameter.get("Default", "") != "":
                yield f"{name}: has a value"


def secrets_come_from_parameters_that_are_hidden(template: Template) -> Iterator[str]:
    """S15: a variable holds where a secret is, or for local runs a parameter that isn't shown."""
    hidden = {name for name, one in template["Parameters"].items() if one.get("NoEcho") is True}
    shared = template["Globals"]["Function"]["Environment"]["Variables"]
    everywhere = [("Globals", shared)] + [
        (name, function["Environment"]["Variables"]) for name, function in functions(template)
    ]
    for name, variables in everywhere:
        for variable, value in variables.items():
            if SECRET_NAME.search(variable) and value not in [{"Ref": one} for one in hidden]:
                yield f"{name}: {variable} is {value}"


def secrets_are_read_by_whoever_is_told_of_them(template: Template) -> Iterator[str]:
    """S13, S15: a role reads just those secrets whose ARNs its function's variables hold."""
    for name, function in functions(template):
        role = function["Role"]["Fn::GetAtt"][0]
        variables = function["Environment"]["Variables"]
        told = {json.dumps(value) for key, value in variables.items() if key.endswith("SECRET_ARN")}
        for service in ("secretsmanager", "ssm"):
            read = {secret for _, secret in rights(template, role, service)}
            yield from (f"{name}: may read {secret} by {service}" for secret in sorted(read - told))
            yield from (f"{name}: may not read {secret}" for secret in sorted(told - read))


def no_secret_is_read_at_deployment(template: Template) -> Iterator[str]:
    """S15: CloudFormation would write it into the functions' environment, for all who see them."""
    for place in re.findall(r"\{\{resolve:(?:secretsmanager|ssm)[^}]*", json.dumps(template)):
        yield f"{place}: is read at deployment"


# -- the template, and breaches of it -------------------------------------------------------------


def resource(name: str, *way: str | int) -> Way:
    return ("Resources", name, "Properties", *way)


def policies(role: str) -> Way:
    """To a place behind its last policy."""
    return (*resource(role, "Policies"), "+")


def policy(action: str, target: object, **more: object) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": target, **more}
    return {"PolicyName": "more", "PolicyDocument": {"Statement": [statement]}}


def arn(name: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [name, "Arn"]}


def opened(kind: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "a:B"}
    return {"Type": kind, "Properties": {"PolicyDocument": {"Statement": [statement]}}}


PERMISSION: Final = {"Type": "AWS::Lambda::Permission", "Properties": {"Principal": "s3"}}
RULE_TO_QUEUE: Final = {
    "Type": "AWS::Events::Rule",
    "Properties": {"Targets": [{"Arn": arn("CheckQueue")}]},
}
OTHER_TOKEN: Final = policy("ssm:GetParameter", {"Ref": "WorkbenchTokenSecretArn"})
OTHER_SECRET: Final = policy("secretsmanager:GetSecretValue", {"Ref": "PollerDatabaseSecretArn"})

BREACHES: Final[dict[Rule, list[tuple[Way, object]]]] = {
    the_tick_sends_and_reads_its_own_queue: [
        (policies("TickRole"), policy("sqs:ReceiveMessage", arn("CheckQueue"))),
        (policies("TickRole"), policy("sqs:PurgeQueue", arn("TickQueue"))),
        (policies("TickRole"), policy("events:PutEvents", arn("EventBus"))),
    ],
    the_check_takes_and_only_tries_again: [
        (policies("CheckRole"), policy("sqs:SendMessage", arn("CheckQueue"))),
        (policies("CheckRole"), policy("sqs:ReceiveMessage", arn("TickQueue"))),
        (policies("CheckRole"), policy("sqs:DeleteQueue", arn("RetryQueue"))),
    ],
    nobody_reads_dead_letters: [
        (policies("HuntRole"), policy("sqs:ReceiveMessage", arn("CheckDlq"))),
    ],
    rights_are_told_by_what_they_are: [
        (policies("ApiRole"), policy("sqs:SendMessage", arn("TickQueue"), NotAction="iam:A")),
        (policies("ApiRole"), policy("s3:GetObject", arn("Bucket"), NotResource="x")),
    ],
    rights_stand_with_the_roles: [
        (resource("RelayFunction", "Policies"), ["AmazonS3FullAccess"]),
        (resource("RelayFunction", "Role"), {}),
    ],
    nothing_is_opened_to_others: [
        (("Resources", "More"), opened("AWS::SQS::QueuePolicy")),
        (("Resources", "More"), opened("AWS::Events::EventBusPolicy")),
        (("Resources", "More"), opened("AWS::SecretsManager::ResourcePolicy")),
        (("Resources", "More"), PERMISSION),
    ],
    functions_start_for_what_is_theirs: [
        (resource("TickFunction", "FunctionUrlConfig"), {"AuthType": "NONE"}),
        (resource("HuntFunction", "Events", "More"), {"Type": "Api"}),
        (resource("ApiFunction", "Events", "More"), {"Type": "SNS"}),
    ],
    queues_are_reached_by_functions_alone: [(("Resources", "More"), RULE_TO_QUEUE)],
    the_api_is_fenced_from_the_poller: [
        (
            resource("ApiFunction", "Environment", "Variables", "DATABASE_URL"),
            {"Ref": "PollerDatabaseUrl"},
        ),
        (resource("CheckFunction", "Environment", "Variables", "DATABASE_SECRET_ARN"), ""),
        (policies("ApiRole"), OTHER_SECRET),
        (resource("AuthorizerRole", "Policies"), [OTHER_SECRET]),
        (("Parameters", "OwnerDatabaseUrl"), {"Type": "String", "NoEcho": True}),
    ],
    secrets_are_hidden_and_given_at_deployment: [
        (("Parameters", "ApiDatabaseUrl", "NoEcho"), False),
        (("Parameters", "PollerDatabaseUrl", "Default"), "postgresql://db/runs"),
        (("Parameters", "WorkbenchToken", "NoEcho"), False),
        (("Parameters", "OtherToken"), {"Type": "String", "Default": ""}),
        (("Parameters", "StorageSecretAccessKey"), {"Type": "String"}),
    ],
    secrets_come_from_parameters_that_are_hidden: [
        (resource("ApiFunction", "Environment", "Variables", "STORAGE_SECRET_ACCESS_KEY"), "x"),
        (resource("CheckFunction", "Environment", "Variables", "TOKEN"), {"Ref": "Stage"}),
        (("Globals", "Function", "Environment", "Variables", "DATABASE_URL"), {"Ref": "Stage"}),
    ],
    secrets_are_read_by_whoever_is_told_of_them: [
        (policies("TickRole"), OTHER_TOKEN),
        (policies("RelayRole"), OTHER_TOKEN),
        (
            resource("RelayFunction", "Environment", "Variables", "WORKBENCH_TOKEN_SECRET_ARN"),
            {"Ref": "WorkbenchTokenSecretArn"},
        ),
    ],
    no_secret_is_read_at_deployment: [
        (
            resource("ApiFunction", "Environment", "Variables", "MORE"),
            {"Fn::Sub": "{{resolve:secretsmanager:${ApiDatabaseSecretArn}:SecretString}}"},
        ),
        (resource("Api", "Tags", "more"), "{{resolve:ssm-secure:name}}"),
    ],
}


def changed(way: Way, value: object) -> Template:
    """The template with one member set."""
    template: Template = json.loads(json.dumps(TEMPLATE))  # Nothing in it is shared.
    *steps, last = way
    at: Any = template
    for step in steps:
        at = at[step]
    if last == "+":
        at.append(value)
    else:
        at[last] = value
    return template


@pytest.mark.parametrize("rule", BREACHES, ids=lambda rule: rule.__name__)
def test_s12_s13_s14_s15_the_template_keeps_to_the_rule(rule: Rule) -> None:
    assert list(rule(TEMPLATE)) == []


@pytest.mark.parametrize(
    ("rule", "way", "value"),
    [
        pytest.param(rule, way, value, id=f"{rule.__name__}-{number}")
        for rule, breaches in BREACHES.items()
        for number, (way, value) in enumerate(breaches)
    ],
)
def test_s12_s13_s14_s15_a_breach_of_the_rule_is_told(rule: Rule, way: Way, value: object) -> None:
    assert list(rule(changed(way, value)))
