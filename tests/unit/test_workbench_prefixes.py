"""Places in the user storage as the reference Workbench reads them."""

from __future__ import annotations

import pytest

from infra.workbench.prefixes import InvalidPrefix, Prefix, parse_prefix


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("s3://bucket/a/b", Prefix("bucket", "a/b")),
        ("s3://bucket/a/b/", Prefix("bucket", "a/b")),
        ("s3://bucket", Prefix("bucket", "")),
        ("a/b", Prefix("own", "a/b")),
        ("/a/b/", Prefix("own", "a/b")),
        ("a..b/...c", Prefix("own", "a..b/...c")),
        ("Grüße/日本", Prefix("own", "Grüße/日本")),
    ],
)
def test_a_prefix_is_absolute_or_of_the_own_bucket(text: str, prefix: Prefix) -> None:
    assert parse_prefix(text, default_bucket="own") == prefix


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "must not be empty"),
        ("//", "must not be empty"),
        ("s3:///a", "names no bucket"),
        ("gs://bucket/a", "must be s3://"),
        ("a/../b", "segments"),
        ("s3://bucket/..", "segments"),
        ("a/./b", "segments"),
        ("a\nb", "control characters"),
        ("a" * 1025, "longer than 1024"),
    ],
)
def test_what_names_no_place_is_refused(text: str, fault: str) -> None:
    with pytest.raises(InvalidPrefix, match=fault):
        parse_prefix(text, default_bucket="own")


def test_a_relative_prefix_needs_a_bucket() -> None:
    with pytest.raises(InvalidPrefix, match="no STORAGE_BUCKET"):
        parse_prefix("a/b", default_bucket=None)


def test_a_place_covers_what_lies_below_it_and_nothing_that_only_begins_alike() -> None:
    june = Prefix("own", "data/june")
    assert june.covers(june)
    assert june.covers(Prefix("own", "data/june/out"))
    assert Prefix("own", "").covers(june)
    assert not june.covers(Prefix("own", "data/june-old"))
    assert not june.covers(Prefix("own", "data"))
    assert not june.covers(Prefix("other", "data/june"))


def test_names_are_put_below_a_prefix() -> None:
    assert Prefix("own", "a").key_of("x.csv") == "a/x.csv"
    assert Prefix("own", "").key_of("x.csv") == "x.csv"
    assert Prefix("own", "a").uri_of("b/x.csv") == "s3://own/a/b/x.csv"
    assert str(Prefix("own", "a")) == "s3://own/a"
