"""Which path prefixes can be used (S7, S8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.prefixes import LONGEST, PrefixRefused, checked


@pytest.mark.parametrize(
    "prefix",
    [
        "a",
        "in/2026/03",
        "in/2026/03/",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/key",
        "s3://my.bucket-7/a/b c/ü/",
        "a..b/...",
        ".hidden",
        "%41",
        "100%",
        "$HOME/{x}",
        "'quotes\"",
        "x" * LONGEST,
        "\N{GRINNING FACE}/\N{CJK UNIFIED IDEOGRAPH-4E2D}",
    ],
)
def test_s7_a_plain_prefix_is_taken_as_it_is(prefix: str) -> None:
    assert checked(prefix) == prefix


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("", "1 to 1024 characters"),
        ("x" * (LONGEST + 1), "1 to 1024 characters"),
        ("..", "segments"),
        (".", "segments"),
        ("a/../b", "segments"),
        ("a/./b", "segments"),
        ("a/..", "segments"),
        ("../a", "segments"),
        ("s3://bucket/../a", "segments"),
        ("s3://bucket/..", "segments"),
        ("a/%2e%2e/b", "segments"),
        ("a/%2E%2e/b", "segments"),
        ("a/.%2e/b", "segments"),
        ("a%2f..%2fb", "segments"),
        ("a%5c..%5cb", "segments"),
        ("a/%252e%252e/b", "segments"),
        ("a/%25252e%25252e/b", "segments"),
        ("a//b", "'//'"),
        ("a//", "'//'"),
        ("s3://bucket//a", "'//'"),
        ("s3://bucket/a//b", "'//'"),
        ("s3://bucket//", "'//'"),
        ("/a", "begin with '/'"),
        ("//a", "begin with '/'"),
        ("/", "begin with '/'"),
        ("a\\b", "backslashes"),
        ("a\\..\\b", "backslashes"),
        ("a\0b", "control characters"),
        ("a\nb", "control characters"),
        ("a\x1bb", "control characters"),
        ("a\x7fb", "control characters"),
        ("a\x85b", "control characters"),
        ("a\u2028b", "control characters"),
        ("a\ud800b", "control characters"),
        ("s3://bucket/a\r\n", "control characters"),
        ("${x}", "'${'"),
        ("a/${workflow.secrets.x}", "'${'"),
        ("s3://bucket/${workflow.input.workbench_api_url}", "'${'"),
        ("s3://", "s3://bucket/key"),
        ("s3:/bucket/a", "s3://bucket/key"),
        ("file:/etc/passwd", "s3://bucket/key"),
        ("s3:///a", "s3://bucket/key"),
        ("s3://B/a", "s3://bucket/key"),
        ("s3://b/a", "s3://bucket/key"),
        ("s3://-bucket/a", "s3://bucket/key"),
        ("s3://bucket-/a", "s3://bucket/key"),
        ("s3://user@bucket/a", "s3://bucket/key"),
        ("s3://bucket:9000/a", "s3://bucket/key"),
        (f"s3://{'b' * 64}/a", "s3://bucket/key"),
        ("S3://bucket/a", "s3://bucket/key"),
        ("http://bucket/a", "s3://bucket/key"),
        ("file:///etc", "s3://bucket/key"),
        ("a/http://b", "s3://bucket/key"),
    ],
)
def test_s7_s8_what_could_mean_something_else_is_refused(prefix: str, why: str) -> None:
    with pytest.raises(PrefixRefused) as refusal:
        checked(prefix)
    assert why in str(refusal.value)


PIECES = st.sampled_from(
    ["a", ".", "..", "/", "//", "%2e", "%252e", "%2f", "\\", "${", "s3://", " "]
)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_s7_whatever_is_taken_climbs_nowhere_however_it_is_read(prefix: str) -> None:
    try:
        checked(prefix)
    except PrefixRefused:
        return
    read_by_someone = prefix.replace("%25", "%").replace("%2e", ".").replace("%2f", "/")
    assert ".." not in read_by_someone.split("/")
    assert "${" not in prefix
    assert "\\" not in prefix
    assert "//" not in prefix.removeprefix("s3://")
