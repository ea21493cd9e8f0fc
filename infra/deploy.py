"""Deploys to AWS: migrates the database, deploys the functions with SAM, registers the workflows.

`make deploy` reads its settings from the environment: the template's parameters by their variables
(ConductorUrl is CONDUCTOR_URL), and those of SETTINGS. It says which are missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.local.environments import ENVIRONMENTS, python_of
from infra.local.files import write_json
from infra.local.layout import TEMPLATE, Layout
from infra.local.template import load_template, parameters_for, variable_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STACK_NAME = "pipeline-runs"
STEPS = ("migrate", "functions", "workflows")
SETTINGS = {
    "STACK_NAME": f"What the stack is called; {STACK_NAME} if not set.",
    "AWS_REGION": "Where to; the AWS profile's if not set.",
    "CONDUCTOR_TOKEN": "What Conductor asks of who registers workflows, if anything.",
    "DATABASE_URL": (
        "postgresql+pg8000://user:password@host:port/name of the schema's owner, to migrate with; "
        "the functions' users are others."
    ),
}
DATABASE_SECRETS = {
    "ApiDatabaseSecretArn": "ApiDatabaseUrl",
    "PollerDatabaseSecretArn": "PollerDatabaseUrl",
}
"""The parameter that names a secret, and the one that may be given in its place."""
OTHER_SECRETS = {
    "ConductorTokenSecretArn": "ConductorToken",
    "WorkbenchTokenSecretArn": "WorkbenchToken",
    "StorageSecretArn": "StorageSecretAccessKey",
}
"""The same, of what need not be there at all."""
LOCAL_STAGES = ("local", "test")
"""In these the functions take secrets as text."""
NETWORK_PARAMETERS = ("VpcSubnetIds", "VpcSecurityGroupIds")


class DeployTrouble(Exception):
    """It can't be deployed; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is deployed where.

    Attributes:
        steps: Those of STEPS that are done.
        parameters: The template's, by name.
        database_url: Of the schema's owner.
        conductor_token: Of who registers workflows; may be empty.
    """

    steps: Sequence[str]
    stack_name: str
    region: str
    parameters: Mapping[str, str]
    database_url: str
    conductor_token: str


def make_plan(
    environment: Mapping[str, str], template: Mapping[str, Any], *, region: str, skip: Sequence[str]
) -> Plan:
    """Reads the settings.

    Args:
        environment: The variables.
        template: What is deployed.
        region: The one to take where no variable names one.
        skip: Steps that are left out.

    Raises:
        DeployTrouble: some are missing; all of them are named, with what they are.
    """
    steps = [step for step in STEPS if step not in skip]
    parameters = parameters_for(dict(template), {}, environment)
    token = parameters.get("ConductorToken", "")
    if "ConductorTokenSecretArn" in parameters:
        parameters.pop("ConductorToken", None)  # The functions read it where it is kept.
    plan = Plan(
        steps=steps,
        stack_name=environment.get("STACK_NAME") or STACK_NAME,
        region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or region,
        parameters=parameters,
        database_url=environment.get("DATABASE_URL", ""),
        conductor_token=token,
    )
    missing = _missing(plan, template["Parameters"])
    if missing:
        width = max(map(len, missing)) + 2
        listed = "\n".join(f"  {name:<{width}}{what}" for name, what in missing.items())
        raise DeployTrouble(f"Set what is missing in the environment:\n{listed}")
    return plan


def _missing(plan: Plan, parameters: Mapping[str, Any]) -> dict[str, str]:
    """The variables that must be set and are not, and what they are."""
    missing: dict[str, str] = {}
    if "functions" in plan.steps:
        wanted = [name for name, one in parameters.items() if "Default" not in one]
        stage = plan.parameters.get("Stage", parameters["Stage"]["Default"])
        given = plan.parameters if stage in LOCAL_STAGES else {}
        wanted += [secret for secret, text in DATABASE_SECRETS.items() if text not in given]
        if stage not in LOCAL_STAGES:  # The functions refuse a secret that stands in the settings.
            wanted += [secret for secret, text in OTHER_SECRETS.items() if text in plan.parameters]
        if len(plan.parameters.keys() & set(NETWORK_PARAMETERS)) == 1:
            wanted += NETWORK_PARAMETERS
        missing = {
            variable_of(name): parameters[name]["Description"]
            for name in wanted
            if name not in plan.parameters
        }
    elif "workflows" in plan.steps and "ConductorUrl" not in plan.parameters:
        missing["CONDUCTOR_URL"] = parameters["ConductorUrl"]["Description"]
    if "migrate" in plan.steps and not plan.database_url:
        missing["DATABASE_URL"] = SETTINGS["DATABASE_URL"]
    if "functions" in plan.steps and not plan.region:
        missing["AWS_REGION"] = SETTINGS["AWS_REGION"]
    return missing


def deploy(plan: Plan, work: Path) -> None:
    """Does the plan's steps, in their order; each may be done again without harm.

    The artifacts are built before anything is changed.

    Args:
        plan: What to do.
        work: A folder for the artifacts and the parameters, which may be secret.

    Raises:
        DeployTrouble: the text says which step failed and what to do.
    """
    if "functions" in plan.steps:
        _say(f"To {_account(plan.region)}, {plan.region}, as {plan.stack_name}")
        _say("Building the functions …")
        _sam("build", "--template", str(TEMPLATE), "--build-dir", str(work / "build"), work=work)
        _say(f"Built: {_megabytes(work / 'build' / 'ApiFunction'):.0f} MB each, unzipped")
    for secret, url in DATABASE_SECRETS.items():
        if url in plan.parameters:
            _say(f"Better than {variable_of(url)} is a secret: {variable_of(secret)}.")
    if "migrate" in plan.steps:
        _say("Migrating the database …")
        _migrate(plan.database_url)
    if "functions" in plan.steps:
        _say("Deploying …")
        _deploy_functions(plan, work)
    if "workflows" in plan.steps:
        _say("Registering the workflows …")
        _register(plan.parameters["ConductorUrl"].rstrip("/"), plan.conductor_token)
    _say("Done.")


def _migrate(database_url: str) -> None:
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - takes 400 ms to load

    from infra.migrate import migrate  # noqa: PLC0415 - the same

    try:
        for warning in migrate(database_url):
            _say(f"Warning: {warning}")
    except (SQLAlchemyError, OSError) as error:
        raise DeployTrouble(
            f"The database can't be migrated: {getattr(error, 'orig', None) or error}\n"
            "  If it can't be reached from here, run `python -m infra.migrate` where it can, and\n"
            "  then this with --skip migrate."
        ) from error


def _deploy_functions(plan: Plan, work: Path) -> None:
    parameters = work / "parameters.yaml"  # JSON is YAML, and SAM takes no .json.
    write_json(parameters, dict(plan.parameters))
    _sam(
        "deploy",
        *("--template-file", str(work / "build" / "template.yaml")),
        *("--stack-name", plan.stack_name, "--region", plan.region),
        *("--parameter-overrides", f"file://{parameters}"),
        *("--capabilities", "CAPABILITY_IAM", "--resolve-s3"),
        *("--no-confirm-changeset", "--no-fail-on-empty-changeset"),
        work=work,
    )


def _register(conductor_url: str, token: str) -> None:
    from infra.register import register  # noqa: PLC0415 - belongs to the step

    try:
        names = register(conductor_url, token=token)
    except OSError as error:
        raise DeployTrouble(
            f"Conductor at {conductor_url} doesn't take the workflows: {error}\n"
            "  If it can't be reached from here, run `python -m infra.register` where it can, and\n"
            "  this with --skip workflows."
        ) from error
    _say(f"Registered {', '.join(names)}")


def _account(region: str) -> str:
    """The account that the credentials at hand belong to."""
    from boto3.session import Session  # noqa: PLC0415 - takes 300 ms to load
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - the same

    try:
        caller = Session(region_name=region).client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise DeployTrouble(
            f"AWS doesn't know who is calling: {error}\n"
            "  Log in (`aws sso login`), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and\n"
            "  AWS_SECRET_ACCESS_KEY."
        ) from error
    return f"account {caller['Account']}"


def _sam(verb: str, *arguments: str, work: Path) -> None:
    """Calls SAM from its own environment; what it says goes to the terminal.

    Raises:
        DeployTrouble: it failed.
    """
    program = python_of("sam").with_name("sam")
    if not program.exists():
        raise DeployTrouble("SAM is missing: python3 -m infra.local.environments sam")
    work.mkdir(parents=True, exist_ok=True)
    # functions/Makefile calls pip, which not every machine has: uv's environment does.
    with_pip = os.pathsep.join([str(ENVIRONMENTS / "uv" / "bin"), os.environ.get("PATH", "")])
    ours = {
        "PATH": with_pip,
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(work / "sam-cli"),
    }
    done = subprocess.run([str(program), verb, *arguments], env=os.environ | ours, check=False)
    if done.returncode:
        raise DeployTrouble(f"`sam {verb}` failed; above it says why.")


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _say(line: str) -> None:
    print(line, flush=True)


def _region_of_profile() -> str:
    from boto3.session import Session  # noqa: PLC0415 - takes 300 ms to load
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - the same

    try:
        return Session().region_name or ""
    except BotoCoreError as error:
        raise DeployTrouble(f"The AWS profile can't be used: {error}") from error


def main() -> int:
    """Deploys as the command line and the environment say.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m infra.deploy", description=__doc__)
    parser.add_argument("--skip", nargs="*", choices=STEPS, default=[], help="leave these out")
    skip = parser.parse_args().skip
    try:
        template = load_template(TEMPLATE)
        plan = make_plan(os.environ, template, region=_region_of_profile(), skip=skip)
        deploy(plan, Layout.from_environment(os.environ).state / "deploy")
    except DeployTrouble as trouble:
        print(f"error: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
