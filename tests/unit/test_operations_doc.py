"""`docs/operations.md` tells of all figures and alarms there are, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.local.layout import TEMPLATE
from infra.local.template import load_template
from runs.metrics import NAMESPACE, Metric

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "operations.md").read_text()
CODE = "\n".join(path.read_text() for path in sorted((ROOT / "functions").rglob("*.py")))
RESOURCES = load_template(TEMPLATE)["Resources"]
ALARMS = [name for name, one in RESOURCES.items() if one["Type"] == "AWS::CloudWatch::Alarm"]
VERBS = re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
FIGURE = re.compile(r"^\| `(\w+)` \| (Count|Seconds) \|([^|]*)\| [^|]+ \|$", re.MULTILINE)
HEADING = re.compile(r"^(#{2,3}) (.+)$", re.MULTILINE)


def section(title: str) -> str:
    """What stands below a heading, up to the next one of any kind."""
    _, _, after = DOC.partition(f"# {title}\n")
    told, _, _ = after.partition("\n##")
    return told


def anchor(title: str) -> str:
    """How a heading is linked to."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


# -- figures --------------------------------------------------------------------------------------


def test_the_table_has_each_figure_with_its_unit_and_no_other() -> None:
    rows = FIGURE.findall(section("Figures"))
    assert [(title, unit) for title, unit, _ in rows] == [(m.title, m.unit) for m in Metric]
    assert f"`{NAMESPACE}`" in section("Figures")


def test_the_table_names_the_dimensions_that_figures_are_told_with() -> None:
    beside = {title: re.findall(r"`(\w+)`", told) for title, _, told in FIGURE.findall(DOC)}
    told = {
        Metric[metric].title: name
        for metric, name in re.findall(r"tell\(\s*\{Metric\.(\w+): [^}]+\}, (\w+)=", CODE)
    }
    assert {title: names for title, names in beside.items() if names} == {
        title: [name] for title, name in told.items()
    }


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.title)
def test_each_figure_is_told_by_somebody(metric: Metric) -> None:
    assert re.search(rf"\bMetric\.{metric.name}: ", CODE)


# -- alarms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("alarm", ALARMS)
def test_each_alarm_has_a_section_that_says_what_it_means_and_what_to_do(alarm: str) -> None:
    told = section(alarm)
    for part in ("**Means.**", "**See more.**", "**Do.**"):
        assert part in told


def test_no_section_tells_of_an_alarm_that_is_not_there() -> None:
    alarms, _, _ = DOC.partition("\n## Figures\n")
    _, _, alarms = alarms.partition("\n## Alarms\n")
    assert sorted(title for _, title in HEADING.findall(alarms)) == sorted(ALARMS)


# -- what it names --------------------------------------------------------------------------------


def test_the_log_lines_that_are_searched_for_are_written() -> None:
    quoted = re.findall(r'message (?:= "\w+"|in \[[^\]]+\])', DOC)
    names = {name for text in quoted for name in re.findall(r'"(\w+)"', text)}
    assert names
    assert {name for name in names if f'"{name}"' not in CODE} == set()


def test_the_resources_that_commands_name_are_the_templates() -> None:
    named = set(re.findall(r"physical ([A-Z]\w+)", DOC))
    assert named
    assert named <= RESOURCES.keys()


def test_the_verbs_modules_and_files_that_it_names_are_there() -> None:
    assert set(re.findall(r"`?make ([a-z-]+)\b(?! up)", _commands())) <= set(VERBS)
    for module in re.findall(r"python -m ([\w.]+)", DOC):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists()
    for path in re.findall(r"\]\(([^)#]+)\)", DOC):
        assert (ROOT / "docs" / path).exists()
    for path in re.findall(r"`(tests/[\w/.]+)`", DOC):
        assert (ROOT / path).exists()


def test_links_within_lead_to_headings() -> None:
    anchors = {anchor(title) for _, title in HEADING.findall(DOC)}
    assert set(re.findall(r"\]\(#([^)]+)\)", DOC)) <= anchors


def test_the_variables_that_it_names_are_the_templates_parameters_or_the_deployments() -> None:
    parameters = {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()
        for name in load_template(TEMPLATE)["Parameters"]
    }
    elsewhere = {"STACK_NAME", "AWS_REGION", "CONDUCTOR_SECRET_WORKBENCH_AUTHORIZATION"}
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", DOC))
    assert named <= parameters | elsewhere


def _commands() -> str:
    """What stands in code, in the text and in blocks."""
    return "\n".join(re.findall(r"`+[^`]+`+", DOC))
