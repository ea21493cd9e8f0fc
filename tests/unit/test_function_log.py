"""The log of one invocation of a local function: complete, bounded, in CloudWatch's form."""

from __future__ import annotations

from infra.local.executor.src.localstack_lambda_process.output import BoundedLog
from infra.local.executor.src.localstack_lambda_process.report import Report


def test_output_is_given_once_and_in_order() -> None:
    log = BoundedLog()
    log.append(b"one\ntw")
    log.append(b"o\n")

    assert log.take() == "one\ntwo\n"
    assert log.take() == ""


def test_an_unfinished_line_is_finished_and_empty_ones_are_dropped() -> None:
    log = BoundedLog()
    log.append(b"one\n\n\ntwo")

    assert log.take() == "one\ntwo\n"


def test_of_too_much_output_the_first_and_the_last_half_are_kept() -> None:
    log = BoundedLog(kept_bytes=8)
    for chunk in (b"abc", b"de", b"fgh", b"ijklm"):
        log.append(chunk)

    assert log.take() == "abcd\n… 5 bytes left out …\njklm\n"


def test_a_chunk_beyond_the_bound_is_cut_too() -> None:
    log = BoundedLog(kept_bytes=4)
    log.append(b"abcdefgh")

    assert log.take() == "ab\n… 4 bytes left out …\ngh\n"


def test_of_too_many_lines_the_first_and_the_last_half_are_kept() -> None:
    log = BoundedLog(kept_lines=4)
    log.append(b"1\n2\n3\n4\n5\n6")

    assert log.take() == "1\n2\n… 2 lines left out …\n5\n6\n"


def test_after_too_much_output_the_next_is_whole_again() -> None:
    log = BoundedLog(kept_bytes=4)
    log.append(b"abcdefgh")
    log.take()
    log.append(b"xy\n")

    assert log.take() == "xy\n"


def test_bytes_that_are_no_text_are_replaced() -> None:
    log = BoundedLog()
    log.append(b"a\xffb\n")

    assert log.take() == "a\N{REPLACEMENT CHARACTER}b\n"


def test_an_invocation_is_logged_as_cloudwatch_shows_it() -> None:
    report = Report(
        request_id="r-1",
        version="$LATEST",
        duration_ms=12.341,
        init_ms=250.0,
        memory_size_mb=128,
        memory_used_mb=47,
    )

    assert report.log(before="loading\n", output="working\n") == (
        "loading\n"
        "START RequestId: r-1 Version: $LATEST\n"
        "working\n"
        "END RequestId: r-1\n"
        "REPORT RequestId: r-1\tDuration: 12.34 ms\tBilled Duration: 13 ms\tMemory Size: 128 MB"
        "\tMax Memory Used: 47 MB\tInit Duration: 250.00 ms\n"
    )


def test_what_is_not_known_is_left_out_of_the_report() -> None:
    report = Report(
        request_id="r-1",
        version="$LATEST",
        duration_ms=5.0,
        init_ms=None,
        memory_size_mb=128,
        memory_used_mb=None,
    )

    assert report.log(before="", output="") == (
        "START RequestId: r-1 Version: $LATEST\n"
        "END RequestId: r-1\n"
        "REPORT RequestId: r-1\tDuration: 5.00 ms\tBilled Duration: 5 ms\tMemory Size: 128 MB\n"
    )
