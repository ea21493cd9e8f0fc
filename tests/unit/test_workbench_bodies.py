"""What the reference Workbench takes for a submission, and how it refuses the rest."""

from __future__ import annotations

from typing import Any

import pytest

from infra.workbench.bodies import (
    InvalidBody,
    MalformedBody,
    parse_idempotency_key,
    parse_job_ids,
    parse_json,
    parse_profile_request,
    parse_submission,
)
from infra.workbench.prefixes import Prefix

BODY = {"pipeline_run_id": 42, "input_path_prefix": "in", "output_path_prefix": "s3://other/out/"}


def submission(**fields: Any) -> Any:
    return parse_submission(BODY | fields, default_bucket="user-data")


def test_a_submission_names_its_places() -> None:
    parsed = submission(report_path_prefix="report")
    assert parsed.pipeline_run_id == 42
    assert parsed.input_prefix == Prefix("user-data", "in")
    assert parsed.output_prefix == Prefix("other", "out")
    assert parsed.report_prefix == Prefix("user-data", "report")


def test_no_report_no_parameters_and_unknown_fields_are_fine() -> None:
    for fields in ({}, {"report_path_prefix": None, "parameters": None}, {"colour": "blue"}):
        parsed = submission(**fields)
        assert parsed.report_prefix is None
        assert parsed.parameters == {}
        assert (parsed.queue_seconds, parsed.work_seconds) == (0, 0)


def test_parameters_are_kept_as_they_are_and_the_known_ones_are_read() -> None:
    parameters = {"work_seconds": 1.5, "queue_seconds": 600, "colour": ["blue"]}
    parsed = submission(parameters=parameters)
    assert parsed.parameters == parameters
    assert (parsed.queue_seconds, parsed.work_seconds) == (600, 1.5)


@pytest.mark.parametrize("seconds", [-1, 600.5, "5", True, None, []])
def test_a_pause_out_of_bounds_is_refused(seconds: Any) -> None:
    with pytest.raises(InvalidBody, match=r"parameters\.work_seconds must be 0 to 600"):
        submission(parameters={"work_seconds": seconds})


def test_all_faults_of_a_body_are_told_at_once() -> None:
    with pytest.raises(InvalidBody) as refused:
        parse_submission({"input_path_prefix": "", "parameters": 3}, default_bucket="user-data")
    assert str(refused.value).split("; ") == [
        "pipeline_run_id must be a whole number, 1 or more",
        "input_path_prefix must not be empty",
        "output_path_prefix must be a text",
        "parameters must be a JSON object",
    ]


@pytest.mark.parametrize("run_id", [0, -1, 1.0, True, "1", None, 2**63])
def test_a_run_id_is_a_positive_whole_number(run_id: Any) -> None:
    with pytest.raises(InvalidBody, match="pipeline_run_id"):
        submission(pipeline_run_id=run_id)


def test_results_may_not_be_written_over_the_input() -> None:
    with pytest.raises(InvalidBody, match="output_path_prefix must not be the same"):
        submission(output_path_prefix="s3://user-data/in/")
    with pytest.raises(InvalidBody, match="report_path_prefix must not be the same"):
        submission(report_path_prefix="in/")


def test_a_body_that_is_no_object_is_refused() -> None:
    bodies: tuple[Any, ...] = ([], "text", None, 3)
    for body in bodies:
        with pytest.raises(InvalidBody, match="must be a JSON object"):
            parse_submission(body, default_bucket=None)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b'{"a": NaN}', b'{"a": 1e999}', b'"\\ud800"', b"[" * 100_000],
    ids=["empty", "open", "no text", "NaN", "too large", "half a letter", "deep"],
)
def test_what_is_not_strict_json_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedBody, match="The body is not JSON"):
        parse_json(raw)


def test_a_realtime_run_needs_its_input_only() -> None:
    body = {"pipeline_run_id": 1, "input_path_prefix": "in", "parameters": {"work_seconds": 2}}
    parsed = parse_profile_request(body, default_bucket="user-data")
    assert (parsed.input_prefix, parsed.work_seconds) == (Prefix("user-data", "in"), 2)
    with pytest.raises(InvalidBody, match="input_path_prefix"):
        parse_profile_request({"pipeline_run_id": 1}, default_bucket="user-data")


def test_at_most_a_hundred_jobs_are_asked_for_at_once() -> None:
    ids = [f"job-{number}" for number in range(100)]
    assert parse_job_ids({"workbench_job_ids": ids}) == tuple(ids)
    for wrong in ([*ids, "one more"], "job-1", [1], None):
        with pytest.raises(InvalidBody, match="workbench_job_ids"):
            parse_job_ids({"workbench_job_ids": wrong})
    with pytest.raises(InvalidBody, match="workbench_job_ids"):
        parse_job_ids([])


def test_an_idempotency_key_is_visible_ascii() -> None:
    assert parse_idempotency_key(None) is None
    for good in ("a", "0b5e-42", "~" * 255):
        assert parse_idempotency_key(good) == good
    for wrong in ("", " ", "a b", "é", "a" * 256, "a\n"):
        with pytest.raises(InvalidBody, match="Idempotency-Key"):
            parse_idempotency_key(wrong)
