"""`make deploy` reads its settings from the environment and says which it lacks."""

from __future__ import annotations

import pytest

from infra.deploy import LOCAL_STAGES, DeployTrouble, make_plan
from infra.local.layout import TEMPLATE
from infra.local.template import load_template
from runs import settings

LOADED = load_template(TEMPLATE)
OWNER = "postgresql+pg8000://owner:pw@db.test/runs"
COMPLETE = {
    "CONDUCTOR_URL": "http://conductor.test",
    "WORKBENCH_API_URL": "http://workbench.test",
    "STORAGE_BUCKET": "user-data",
    "OIDC_ISSUER": "https://issuer.test",
    "OIDC_JWKS_URL": "https://issuer.test/jwks",
    "DATABASE_URL": OWNER,
    "API_DATABASE_SECRET_ARN": "arn:aws:secretsmanager:eu-west-2:000000000000:secret:api",
    "POLLER_DATABASE_SECRET_ARN": "arn:aws:secretsmanager:eu-west-2:000000000000:secret:poller",
    "AWS_REGION": "eu-west-2",
}


def missing(environment: dict[str, str], *skip: str) -> list[str]:
    """The variables that are asked for."""
    with pytest.raises(DeployTrouble) as trouble:
        make_plan(environment, LOADED, region="", skip=skip)
    first, *lines = str(trouble.value).splitlines()
    assert first == "Set what is missing in the environment:"
    assert all(len(line.split(maxsplit=1)[1]) > 10 for line in lines)
    return [line.split()[0] for line in lines]


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in COMPLETE.items() if name not in names}


def test_parameters_come_from_the_variables_of_their_names() -> None:
    more = {"POLL_INTERVAL_SECONDS": "60", "VPC_SUBNET_IDS": "a,b", "VPC_SECURITY_GROUP_IDS": "c"}
    plan = make_plan(COMPLETE | more, LOADED, region="", skip=())
    assert plan.parameters == {
        "ConductorUrl": "http://conductor.test",
        "WorkbenchApiUrl": "http://workbench.test",
        "StorageBucket": "user-data",
        "OidcIssuer": "https://issuer.test",
        "OidcJwksUrl": "https://issuer.test/jwks",
        "ApiDatabaseSecretArn": COMPLETE["API_DATABASE_SECRET_ARN"],
        "PollerDatabaseSecretArn": COMPLETE["POLLER_DATABASE_SECRET_ARN"],
        "PollIntervalSeconds": "60",
        "VpcSubnetIds": "a,b",
        "VpcSecurityGroupIds": "c",
    }
    assert (plan.region, plan.stack_name) == ("eu-west-2", "pipeline-runs")
    assert plan.steps == ["migrate", "functions", "workflows"]


def test_s12_the_owners_url_is_for_migrating_alone() -> None:
    plan = make_plan(COMPLETE, LOADED, region="", skip=())
    assert plan.database_url == OWNER
    assert OWNER not in plan.parameters.values()


def test_a_test_installation_may_have_its_secrets_as_text() -> None:
    theirs = "postgresql+pg8000://poller:pw@db.test/runs"
    more = {"POLLER_DATABASE_URL": theirs, "WORKBENCH_TOKEN": "text", "STAGE": "test"}
    given = without("POLLER_DATABASE_SECRET_ARN") | more
    plan = make_plan(given, LOADED, region="", skip=())
    assert plan.parameters["PollerDatabaseUrl"] == theirs
    assert "ApiDatabaseUrl" not in plan.parameters


def test_s15_s19_in_production_a_secret_is_named_and_not_given() -> None:
    for text, arn in [
        ("POLLER_DATABASE_URL", "POLLER_DATABASE_SECRET_ARN"),
        ("WORKBENCH_TOKEN", "WORKBENCH_TOKEN_SECRET_ARN"),
        ("CONDUCTOR_TOKEN", "CONDUCTOR_TOKEN_SECRET_ARN"),
        ("STORAGE_SECRET_ACCESS_KEY", "STORAGE_SECRET_ARN"),
    ]:
        assert missing(without(arn) | {text: "a secret"}) == [arn]


def test_what_is_production_is_so_for_the_functions_too() -> None:
    assert set(LOCAL_STAGES) == settings.LOCAL_STAGES


def test_s15_the_token_to_register_with_is_not_given_to_the_functions() -> None:
    arn = "arn:aws:secretsmanager:eu-west-2:000000000000:secret:token"
    given = {"CONDUCTOR_TOKEN": "text", "CONDUCTOR_TOKEN_SECRET_ARN": arn}
    plan = make_plan(COMPLETE | given, LOADED, region="", skip=())
    assert plan.conductor_token == given["CONDUCTOR_TOKEN"]
    assert "text" not in plan.parameters.values()
    assert plan.parameters["ConductorTokenSecretArn"] == arn


def test_everything_that_is_missing_is_named_at_once() -> None:
    assert missing({}) == [
        "OIDC_ISSUER",
        "OIDC_JWKS_URL",
        "CONDUCTOR_URL",
        "WORKBENCH_API_URL",
        "STORAGE_BUCKET",
        "API_DATABASE_SECRET_ARN",
        "POLLER_DATABASE_SECRET_ARN",
        "DATABASE_URL",
        "AWS_REGION",
    ]


@pytest.mark.parametrize("name", sorted(COMPLETE.keys()))
def test_one_that_is_missing_is_named_alone(name: str) -> None:
    assert missing(without(name)) == [name]
    assert missing(COMPLETE | {name: ""}) == [name]


def test_a_step_that_is_left_out_needs_nothing() -> None:
    assert missing(without("DATABASE_URL")) == ["DATABASE_URL"]
    make_plan(without("DATABASE_URL"), LOADED, region="", skip=["migrate"])
    make_plan({"DATABASE_URL": OWNER}, LOADED, region="", skip=["functions", "workflows"])
    workflows_only = ["migrate", "functions"]
    assert missing({}, *workflows_only) == ["CONDUCTOR_URL"]
    make_plan({"CONDUCTOR_URL": "http://c.test"}, LOADED, region="", skip=workflows_only)


def test_subnets_and_security_groups_are_given_together() -> None:
    assert missing(COMPLETE | {"VPC_SUBNET_IDS": "a"}) == ["VPC_SECURITY_GROUP_IDS"]
    assert missing(COMPLETE | {"VPC_SECURITY_GROUP_IDS": "c"}) == ["VPC_SUBNET_IDS"]


def test_the_region_may_be_the_profiles() -> None:
    plan = make_plan(without("AWS_REGION"), LOADED, region="eu-north-1", skip=())
    assert plan.region == "eu-north-1"
    other = without("AWS_REGION") | {"AWS_DEFAULT_REGION": "eu-west-1", "STACK_NAME": "runs-2"}
    plan = make_plan(other, LOADED, region="eu-north-1", skip=())
    assert (plan.region, plan.stack_name) == ("eu-west-1", "runs-2")
