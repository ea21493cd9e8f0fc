"""Which path prefixes can be used (S7, S8)."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.prefixes import LONGEST, Location, PrefixRefused, StorageRules, checked


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


# -- by bucket and by tenant ----------------------------------------------------------------------

RULES = StorageRules(bucket="user-data", allowed_buckets=frozenset({"shared"}))
TENANTS = StorageRules(
    bucket="user-data",
    allowed_buckets=frozenset({"shared"}),
    tenant_prefix="tenants/{tenant}/",
)


@pytest.mark.parametrize(
    ("prefix", "place"),
    [
        ("in", ("user-data", "in/")),
        ("in/2026/", ("user-data", "in/2026/")),
        ("s3://user-data/in", ("user-data", "in/")),
        ("s3://shared/in/", ("shared", "in/")),
        ("s3://shared", ("shared", "")),
        ("s3://shared/", ("shared", "")),
        ("a%2fb/ü c", ("user-data", "a%2fb/ü c/")),
    ],
)
def test_a_prefix_leads_into_one_folder_of_one_bucket(prefix: str, place: tuple[str, str]) -> None:
    assert RULES.location(prefix) == Location(*place)


def test_s7_the_configured_bucket_and_those_that_are_listed_are_allowed() -> None:
    for prefix in ("in", "s3://user-data", "s3://user-data/in", "s3://shared/in"):
        assert RULES.refusal(prefix, "t1") is None


@pytest.mark.parametrize(
    "bucket", ["other", "user-data2", "user-dat", "shared.x", "s3x", "tenants"]
)
def test_s7_any_other_bucket_is_refused(bucket: str) -> None:
    for rules in (RULES, TENANTS, StorageRules(bucket="user-data")):
        refusal = rules.refusal(f"s3://{bucket}/tenants/t1/in", "t1")
        assert refusal == f"must not be in the bucket '{bucket}': this service may not use it"


def test_s7_without_a_list_the_configured_bucket_is_the_only_one() -> None:
    rules = StorageRules(bucket="user-data")
    assert rules.refusal("in", "t1") is None
    assert rules.refusal("s3://shared/in", "t1") is not None


def test_s7_what_can_not_be_used_at_all_is_refused_here_too() -> None:
    for rules in (RULES, TENANTS):
        assert rules.refusal("tenants/t1/../t2", "t1") == "must not contain '.' or '..' segments"
        assert rules.refusal("s3://X/a", "t1") == (
            "must be s3://bucket/key or relative to the storage bucket"
        )


@pytest.mark.parametrize(
    "prefix",
    [
        "tenants/t1",
        "tenants/t1/",
        "tenants/t1/in",
        "tenants/t1/tenants/t2",
        "s3://user-data/tenants/t1/in/",
        "s3://shared/tenants/t1",
    ],
)
def test_s7_a_tenant_has_all_below_its_own_prefix_in_each_bucket(prefix: str) -> None:
    assert TENANTS.refusal(prefix, "t1") is None


@pytest.mark.parametrize(
    "prefix",
    [
        "tenants/t10",
        "tenants/t10/in",
        "tenants/t",
        "tenants/t1x/in",
        "tenants/t1%2f/in",
        "tenants/t1%2f..%2ft2",
        "tenants%2ft1/in",
        "tenants/%74%31/in",
        "tenants/T1/in",
        "tenants/t2/in",
        "tenants",
        "tenants/",
        "in",
        "t1/in",
        "x/tenants/t1/in",
        " tenants/t1/in",
        "s3://user-data",
        "s3://user-data/",
        "s3://shared/in",
        "s3://shared/tenants/t10",
        "s3://shared/tenants/t1/../t2",
        "s3://shared/tenants/t1/%2e%2e/t2",
        "s3://tenants/t1/in",
    ],
)
def test_s7_a_tenant_has_nothing_beside_its_own_prefix(prefix: str) -> None:
    assert TENANTS.refusal(prefix, "t1") is not None


def test_s7_a_refusal_tells_where_the_tenant_may_go() -> None:
    assert TENANTS.refusal("in", "t1") == "must begin with 'tenants/t1/' in its bucket"


@pytest.mark.parametrize("name", ["", ".", "..", "t1/in", "t1/../t2", "t%2f", "t\\1", "t 1", "t\n"])
def test_s7_a_tenant_whose_name_is_no_segment_has_no_place(name: str) -> None:
    for prefix in (f"tenants/{name}/in", f"tenants/{name}", "tenants/t1/in"):
        assert TENANTS.refusal(prefix, name) is not None


TENANT_PIECES = st.sampled_from(
    [
        *("tenants", "t1", "t10", "t2", "in", "shared", "user-data"),
        *("..", "%2e%2e", "%252E.", "%2f", "%255c", "%74", "/", "s3://"),
    ]
)


@given(st.lists(TENANT_PIECES, max_size=9).map("".join))
def test_s7_no_prefix_leads_out_of_the_tenants_own_however_often_it_is_decoded(
    prefix: str,
) -> None:
    for text in (prefix, f"tenants/t1/{prefix}", f"s3://shared/tenants/t1{prefix}"):
        if TENANTS.refusal(text, "t1") is None:
            bucket, read = TENANTS.location(text)
            assert bucket in {"user-data", "shared"}
            for _ in range(4):
                assert read.split("/")[:2] == ["tenants", "t1"]
                assert ".." not in read.replace("\\", "/").split("/")
                read = unquote(read)


def test_rules_are_read_from_variables() -> None:
    rules = StorageRules.from_settings(
        bucket="a", allowed_buckets=" b-1, b-2 ,,", tenant_prefix="t/{tenant}"
    )
    assert rules.allowed_buckets == {"b-1", "b-2"}
    assert rules.refusal("t/x/in", "x") is None
    assert rules.refusal("t/xy/in", "x") is not None
    none = StorageRules.from_settings(bucket="a", allowed_buckets="", tenant_prefix="")
    assert none == StorageRules(bucket="a")


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("tenants/", "{tenant}"),
        ("s3://bucket/{tenant}", "without a bucket"),
        ("/{tenant}", "begin with '/'"),
        ("../{tenant}", "segments"),
        ("${tenant}", "'${'"),
    ],
)
def test_s7_a_rule_that_would_keep_nobody_apart_is_refused(prefix: str, why: str) -> None:
    with pytest.raises(PrefixRefused) as refusal:
        StorageRules(bucket="user-data", tenant_prefix=prefix)
    assert why in str(refusal.value)
    with pytest.raises(PrefixRefused, match="TENANT_PREFIX must"):
        StorageRules.from_settings(bucket="user-data", allowed_buckets="", tenant_prefix=prefix)
