"""The page about AWS is true to the template: its tables name every parameter, and no other."""

from __future__ import annotations

import re
from typing import Final

import pytest

from infra.deploy import LOCAL_STAGES, SETTINGS
from infra.local.environments import ROOT
from infra.local.layout import TEMPLATE
from infra.local.template import load_template, variable_of

PAGE: Final = (ROOT / "docs" / "deploy-to-aws.md").read_text()
PARAMETERS: Final = load_template(TEMPLATE)["Parameters"]
ROWS: Final = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\S+) \| (.+) \|$", PAGE, re.MULTILINE)


def test_every_parameter_has_its_row_and_every_row_a_parameter() -> None:
    assert sorted(name for _, name, _, _ in ROWS) == sorted(PARAMETERS)


@pytest.mark.parametrize(("variable", "name", "unset", "what"), ROWS)
def test_a_row_tells_the_variable_and_what_holds_unless_it_is_set(
    variable: str, name: str, unset: str, what: str
) -> None:
    default = PARAMETERS[name].get("Default")
    told = "**needed**" if default is None else f"`{default}`" if default != "" else "empty"
    assert (variable, unset) == (variable_of(name), told)
    assert what


def test_what_make_deploy_takes_beside_them_is_named() -> None:
    assert [name for name in SETTINGS if f"`{name}`" not in PAGE] == []
    assert [stage for stage in LOCAL_STAGES if f"`{stage}`" not in PAGE] == []


def test_secrets_as_text_are_told_apart_as_local() -> None:
    _, local = PAGE.split("any other stage refuses them")
    secret = {name for name, one in PARAMETERS.items() if one.get("NoEcho")}
    told = set(re.findall(r"^\| `\w+` \| `(\w+)` \|", local, re.MULTILINE))
    assert secret == told
