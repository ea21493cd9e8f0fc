"""`template.yaml` as LocalStack gets it: the same resources, the code taken from where it lies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HOT_RELOAD_BUCKET = "hot-reload"
"""LocalStack's word for: the key is a folder, and an edit there shows on the next call."""
FUNCTION_TYPE = "AWS::Serverless::Function"


class _TemplateLoader(yaml.SafeLoader):
    """Knows CloudFormation's short tags, and leaves dates alone."""


def load_template(path: Path) -> dict[str, Any]:
    """The template, its short tags (`!Ref X`) in the long form (`{"Ref": "X"}`)."""
    # The loader is safe: it knows plain values and CloudFormation's tags.
    loaded = yaml.load(path.read_text(), _TemplateLoader)  # noqa: S506
    return dict(loaded)


def with_code_from(template: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The template with the code of every function taken from FOLDER as it stands."""
    code = {"Bucket": HOT_RELOAD_BUCKET, "Key": str(folder)}
    shared = template.get("Globals", {})
    shared = shared | {"Function": shared.get("Function", {}) | {"CodeUri": code}}
    resources = {
        name: _without_own_code(resource) for name, resource in template["Resources"].items()
    }
    return template | {"Globals": shared, "Resources": resources}


def parameters_for(
    template: dict[str, Any], ours: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, str]:
    """The parameters that the template has: ours, else what a variable of that name sets.

    `SubmitWaitSeconds` is set by SUBMIT_WAIT_SECONDS.
    """
    values: dict[str, str] = {}
    for name in template.get("Parameters", {}):
        if name in ours:
            values[name] = ours[name]
        elif text := environment.get(variable_of(name)):
            values[name] = text
    return values


def custom_api_id(template: dict[str, Any]) -> str:
    """The id that the API gets from LocalStack, after every start the same."""
    return str(template["Resources"]["Api"]["Properties"]["Tags"]["_custom_id_"])


def api_url(localstack_url: str, api_id: str) -> str:
    """Where LocalStack serves the API."""
    return f"{localstack_url}/_aws/execute-api/{api_id}/Prod"


def variable_of(parameter: str) -> str:
    """The environment variable for a parameter: PollIntervalSeconds, POLL_INTERVAL_SECONDS."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", parameter).upper()


def _without_own_code(resource: dict[str, Any]) -> dict[str, Any]:
    if resource.get("Type") != FUNCTION_TYPE:
        return resource
    properties = {k: v for k, v in resource["Properties"].items() if k != "CodeUri"}
    return resource | {"Properties": properties}


def _long_form(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    if tag in {"Ref", "Condition"}:
        return {tag: value}
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{tag}": value}


_TemplateLoader.add_multi_constructor("!", _long_form)
_TemplateLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
