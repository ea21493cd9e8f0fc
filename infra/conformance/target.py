"""Which Workbench is meant, and what its jobs are given."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from infra.conformance.trial import Patience, Prefixes
from infra.local.files import read_json
from infra.local.layout import Layout

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

INPUT: Final = "conformance/input"
OUTPUT: Final = "conformance/output"
REPORT: Final = "conformance/report"
SAMPLE: Final = b"name,amount\nAda,10\nBob,20\n"


class TargetTrouble(Exception):
    """There is no Workbench to ask; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A Workbench to put on trial.

    Attributes:
        token: Empty: it wants none.
        parameters: What each job is given; None is nothing.
        namespace: What our idempotency keys begin with.
    """

    url: str
    prefixes: Prefixes
    token: str = field(default="", repr=False)
    parameters: Mapping[str, Any] | None = None
    patience: Patience = field(default_factory=Patience)
    namespace: str = field(default_factory=lambda: str(uuid.uuid4()))


def read_target(arguments: Namespace, environment: Mapping[str, str]) -> Target:
    """WORKBENCH_API_URL's, else that of the stack on this machine, which is given a small file.

    Raises:
        TargetTrouble: there is neither, or something given makes no sense.
    """
    target = Target(
        url=environment.get("WORKBENCH_API_URL", "").rstrip("/"),
        token=environment.get("WORKBENCH_TOKEN", ""),
        prefixes=Prefixes(
            input=arguments.input or INPUT,
            output=arguments.output or OUTPUT,
            report=arguments.report or REPORT,
        ),
        parameters=_parameters(arguments.parameters),
        patience=Patience(job=60 * arguments.job_minutes),
    )
    if target.url:
        _check(target.url)
        return target
    stack = read_json(Layout.from_environment(environment).stack_file)
    if not stack.get("workbench_url"):
        raise TargetTrouble(
            "Say which Workbench: make conformance WORKBENCH_API_URL=https://… "
            "[WORKBENCH_TOKEN=…] [INPUT=s3://bucket/folder OUTPUT=… REPORT=…]\n"
            "Or start the stack with `make up`: then its own is asked."
        )
    if arguments.input is None:
        _put_sample(stack)
    return replace(target, url=stack["workbench_url"])


def _parameters(text: str | None) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text or "null")
    except ValueError as error:
        raise TargetTrouble(f"PARAMETERS must be a JSON object: {error}") from error
    if value is not None and not isinstance(value, dict):
        raise TargetTrouble('PARAMETERS must be a JSON object, as in \'{"colour": "blue"}\'')
    return value


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or True)
    except ValueError:
        fits = False
    if not fits:
        raise TargetTrouble(f"WORKBENCH_API_URL must be an http address, not {url!r}")


def _put_sample(stack: Mapping[str, Any]) -> None:
    """So that its jobs have something to work on."""
    import boto3  # noqa: PLC0415 - takes 300 ms to load, and only here is it needed
    from botocore.config import Config  # noqa: PLC0415 - the same
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - the same

    s3 = boto3.session.Session().client(
        "s3",
        endpoint_url=stack["storage_endpoint_url"],
        aws_access_key_id=stack["storage_access_key_id"],
        aws_secret_access_key=stack["storage_secret_access_key"],
        region_name=stack["aws_region"],
        config=Config(s3={"addressing_style": "path"}),
    )
    try:
        s3.put_object(Bucket=stack["storage_bucket"], Key=f"{INPUT}/people.csv", Body=SAMPLE)
    except (BotoCoreError, ClientError) as error:
        raise TargetTrouble(
            f"The stack's storage can't be written to: {error}\n"
            "`make status` tells what is wrong with the stack, and `make up` mends it."
        ) from error
