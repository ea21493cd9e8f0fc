"""Tokens of the client: what they say, and those that a command gives."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pipeline_runs import errors
from pipeline_runs.tokens import CommandToken, claims_of, output_of
from token_maker import TokenMaker

if TYPE_CHECKING:
    from collections.abc import Sequence

MAKER = TokenMaker(now=lambda: 1_000_000.0)


def test_a_token_says_whose_it_is_what_it_allows_and_how_long() -> None:
    claims = claims_of(MAKER.token(scopes=["runs:read", "runs:write"]))
    assert claims is not None
    assert claims.subject == "alice"
    assert claims.scopes == ["runs:read", "runs:write"]
    assert claims.issued_at == datetime.fromtimestamp(1_000_000, UTC)
    assert claims.expires_at == datetime.fromtimestamp(1_003_600, UTC)


@pytest.mark.parametrize("token", ["", "opaque", "a.b", "a.b.c", "a.W10.c", "ä.ö.ü"])
def test_what_is_no_jwt_says_nothing(token: str) -> None:
    assert claims_of(token) is None


def test_claims_of_odd_types_say_nothing() -> None:
    claims = claims_of(MAKER.token(scope=7, exp="soon", iat=1e300))
    assert claims is not None
    assert (claims.scopes, claims.expires_at, claims.issued_at) == ([], None, None)


class Commands:
    """What a token command prints, time after time."""

    def __init__(self, *outputs: str) -> None:
        self.outputs = list(outputs)
        self.now = 1_000_000.0

    def run(self, command: Sequence[str]) -> str:
        assert command == ["sso", "token"]
        return self.outputs.pop(0)

    def token(self) -> CommandToken:
        return CommandToken(["sso", "token"], run=self.run, clock=lambda: self.now)


def test_a_token_is_kept_until_a_minute_before_its_end() -> None:
    commands = Commands(first := MAKER.token(), "second")
    token = commands.token()
    assert token() == first
    commands.now += 3_600 - 61
    assert token() == first
    commands.now += 1
    assert token() == "second"


def test_a_token_that_does_not_say_when_it_ends_is_kept_for_five_minutes() -> None:
    commands = Commands("first", "second")
    token = commands.token()
    assert (token(), token()) == ("first", "first")
    commands.now += 300
    assert token() == "second"


def test_a_command_is_run_without_a_shell() -> None:
    command = [sys.executable, "-c", "import sys; print(sys.argv[1])", "$HOME; x"]
    assert output_of(command) == "$HOME; x"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["no-such-program-here"], "can't be run"),
        ([sys.executable, "-c", "import sys; sys.exit('sign in first')"], "sign in first"),
        ([sys.executable, "-c", ""], "it printed nothing"),
    ],
)
def test_a_command_that_gives_none_says_why(command: list[str], told: str) -> None:
    with pytest.raises(errors.NotConfigured, match=told):
        output_of(command)
