"""`template.yaml` on its way to LocalStack."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from infra.local.template import load_template, parameters_for, variable_of, with_code_from

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = """
    AWSTemplateFormatVersion: 2010-09-09
    Parameters:
      Stage: { Type: String }
      DatabaseUrl: { Type: String }
      SubmitWaitSeconds: { Type: Number, Default: 10 }
      PollIntervalSeconds: { Type: Number, Default: 30 }
    Conditions:
      Small: !Not [!Equals [!Ref Stage, prod]]
    Globals:
      Function: { CodeUri: functions/, Runtime: python3.13 }
    Resources:
      Queue: { Type: AWS::SQS::Queue }
      Plain:
        Type: AWS::Serverless::Function
        Properties:
          Handler: a.handler
          Role: !GetAtt Role.Arn
          Environment:
            Variables:
              URL: !Sub "https://${Queue}/x"
              SIZE: !If [Small, 1, !Ref AWS::NoValue]
      OwnCode:
        Type: AWS::Serverless::Function
        Condition: Small
        Properties: { Handler: b.handler, CodeUri: elsewhere/ }
"""


@pytest.fixture
def template(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "template.yaml"
    path.write_text(dedent(TEMPLATE))
    return load_template(path)


def test_short_tags_become_long_ones(template: dict[str, Any]) -> None:
    properties = template["Resources"]["Plain"]["Properties"]
    assert properties["Role"] == {"Fn::GetAtt": ["Role", "Arn"]}
    assert properties["Environment"]["Variables"] == {
        "URL": {"Fn::Sub": "https://${Queue}/x"},
        "SIZE": {"Fn::If": ["Small", 1, {"Ref": "AWS::NoValue"}]},
    }
    assert template["Conditions"]["Small"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "Stage"}, "prod"]}]
    }


def test_the_formats_version_stays_a_text(template: dict[str, Any]) -> None:
    assert template["AWSTemplateFormatVersion"] == "2010-09-09"


def test_all_functions_run_from_the_folder_and_nothing_else_changes(
    template: dict[str, Any], tmp_path: Path
) -> None:
    changed = with_code_from(template, tmp_path)
    function = changed["Globals"]["Function"]
    assert function == {
        "CodeUri": {"Bucket": "hot-reload", "Key": str(tmp_path)},
        "Runtime": "python3.13",
    }
    assert changed["Resources"]["OwnCode"]["Properties"] == {"Handler": "b.handler"}
    assert changed["Resources"]["Plain"] == template["Resources"]["Plain"]
    assert changed["Resources"]["Queue"] == template["Resources"]["Queue"]
    assert template["Globals"]["Function"]["CodeUri"] == "functions/"


def test_a_parameter_is_ours_or_the_environments_or_left_to_its_default(
    template: dict[str, Any],
) -> None:
    values = parameters_for(
        template,
        {"Stage": "local", "DatabaseUrl": "postgres", "NotInTheTemplate": "x"},
        {"STAGE": "prod", "SUBMIT_WAIT_SECONDS": "3", "POLL_INTERVAL_SECONDS": ""},
    )
    assert values == {"Stage": "local", "DatabaseUrl": "postgres", "SubmitWaitSeconds": "3"}


@pytest.mark.parametrize(
    ("parameter", "variable"),
    [("Stage", "STAGE"), ("PollIntervalSeconds", "POLL_INTERVAL_SECONDS"), ("S3Url", "S3_URL")],
)
def test_a_parameters_variable_is_its_name_in_capitals(parameter: str, variable: str) -> None:
    assert variable_of(parameter) == variable
