"""The local stack's own issuer of tokens: what it signs is what the API accepts."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infra.local import issuer as local
from infra.local.files import read_json
from infra.local.issuer import issuer_of
from infra.local.layout import Layout
from infra.local.trouble import StackTrouble
from runs.adapters.tokens import OidcTokens
from runs.callers import Scope
from runs.errors import TokenRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.local.issuer import LocalIssuer

ROOT = Path(__file__).parents[2]
EVERY_SCOPE = frozenset(Scope)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "a state")


def tokens_of(issuer: LocalIssuer, *, wall_clock: Callable[[], float] = time.time) -> OidcTokens:
    """The API's eye, set as the stack sets it."""
    return OidcTokens(
        issuer=issuer.issuer,
        audience=issuer.audience,
        jwks_url=issuer.jwks_url,
        tenant_claim=local.TENANT_CLAIM,
        clock=time.monotonic,
        wall_clock=wall_clock,
    )


def test_a_local_token_is_accepted_with_all_scopes_unless_told_otherwise(layout: Layout) -> None:
    issuer = issuer_of(layout)
    caller = tokens_of(issuer).caller_of(issuer.token())
    assert (caller.tenant_id, caller.subject, caller.scopes) == ("default", "local", EVERY_SCOPE)


def test_a_local_token_says_what_it_was_asked_to_say(layout: Layout) -> None:
    issuer = issuer_of(layout)
    token = issuer.token(tenant="t1", scopes=["runs:read"], subject="alice")
    caller = tokens_of(issuer).caller_of(token)
    assert (caller.tenant_id, caller.subject) == ("t1", "alice")
    assert caller.scopes == {Scope.RUNS_READ}


def test_the_scopes_that_the_issuer_knows_are_the_apis() -> None:
    assert set(local.SCOPES) == EVERY_SCOPE


def test_a_local_token_ends_with_its_hours(layout: Layout) -> None:
    issuer = issuer_of(layout)
    token = issuer.token(lifetime=timedelta(hours=1))
    hour = 3_600
    assert tokens_of(issuer, wall_clock=lambda: time.time() + hour - 100).caller_of(token)
    with pytest.raises(TokenRefused, match="expired"):
        tokens_of(issuer, wall_clock=lambda: time.time() + hour + 100).caller_of(token)


def test_no_two_local_tokens_are_the_same(layout: Layout) -> None:
    issuer = issuer_of(layout)
    assert issuer.token() != issuer.token()


def test_the_key_stays_over_restarts_and_is_its_owners_alone(layout: Layout) -> None:
    first, again = issuer_of(layout), issuer_of(layout)
    assert tokens_of(again).caller_of(first.token())
    folder = layout.part("issuer")
    assert (folder / "key.json").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in folder.iterdir()} == {"key.json", "jwks.json"}


def test_the_private_key_is_neither_published_nor_shown(layout: Layout) -> None:
    issuer = issuer_of(layout)
    secret = read_json(layout.part("issuer") / "key.json")["d"]
    (published,) = read_json(layout.part("issuer") / "jwks.json")["keys"]
    assert "d" not in published
    assert secret not in str(published)
    assert repr(issuer.private_key) not in repr(issuer)


def test_a_key_set_that_was_removed_is_written_again(layout: Layout) -> None:
    token = issuer_of(layout).token()
    (layout.part("issuer") / "jwks.json").unlink()
    assert tokens_of(issuer_of(layout)).caller_of(token)


def test_without_its_folder_the_issuer_has_another_key(layout: Layout) -> None:
    old = issuer_of(layout).token()
    for path in layout.part("issuer").iterdir():
        path.unlink()
    issuer = issuer_of(layout)
    assert tokens_of(issuer).caller_of(issuer.token())
    with pytest.raises(TokenRefused):
        tokens_of(issuer).caller_of(old)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"kty": "EC", "crv": "P-256", "d": "AAAA"}'])
def test_a_spoilt_key_is_told_with_what_to_do(layout: Layout, content: str) -> None:
    issuer_of(layout)
    (layout.part("issuer") / "key.json").write_text(content)
    with pytest.raises(StackTrouble, match="Remove the folder"):
        issuer_of(layout)


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ({"tenant": "T1"}, "TENANT"),
        ({"tenant": ""}, "TENANT"),
        ({"scopes": ["runs:read", "runs:reed"]}, "SCOPES has runs:reed"),
        ({"subject": ""}, "SUBJECT"),
        ({"lifetime": timedelta(0)}, "HOURS"),
    ],
)
def test_a_token_that_would_be_refused_is_not_made(
    layout: Layout, what: dict[str, Any], name: str
) -> None:
    with pytest.raises(StackTrouble, match=name):
        issuer_of(layout).token(**what)


def token_command(layout: Layout, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.local", "token", *arguments],
        cwd=ROOT,
        env={"PIPELINE_RUNS_LOCAL": str(layout.state)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_a_token_and_nothing_else(layout: Layout) -> None:
    done = token_command(layout, "--tenant", "t1", "--scopes", "runs:read runs:write")
    assert (done.returncode, done.stderr) == (0, "")
    caller = tokens_of(issuer_of(layout)).caller_of(done.stdout.removesuffix("\n"))
    assert caller.tenant_id == "t1"
    assert caller.scopes == {Scope.RUNS_READ, Scope.RUNS_WRITE}


def test_of_two_commands_that_make_the_key_at_once_one_does(layout: Layout) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: token_command(layout), range(2)))
    tokens = tokens_of(issuer_of(layout))
    assert [tokens.caller_of(one.stdout.strip()).tenant_id for one in done] == ["default"] * 2


def test_the_command_prints_no_token_where_it_has_none(layout: Layout) -> None:
    done = token_command(layout, "--scopes", "everything")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: SCOPES has everything; there are: runs:read ")
