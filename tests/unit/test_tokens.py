"""Whom a token speaks for, and what is not believed; all of it in this process."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from runs.adapters.jwks import LARGEST_SET, SetUnreadable, SigningKeys, fetch_set
from runs.adapters.tokens import LONGEST_TOKEN, OidcTokens
from runs.callers import Caller, Scope
from runs.errors import TokenRefused, TokensUnavailable
from runs.settings import SettingsInvalid
from token_maker import AUDIENCE, ISSUER, TENANT_CLAIM, TokenMaker, ec_key, public_jwk, rsa_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOON = 1_772_366_400.0  # 2026-03-01T12:00:00Z
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
MAKERS = {name: TokenMaker(algorithm=name, now=lambda: NOON) for name in ("ES256", "RS256")}
BROKEN = [
    pytest.param(maker, token, id=f"{name}: {kind}")
    for name, maker in MAKERS.items()
    for kind, token in maker.broken().items()
]
MAKER = MAKERS["ES256"]
TOKENS = MAKER.tokens(clock=lambda: 0.0)
GOOD = MAKER.token()


def caller_of(token: str) -> Caller:
    return TOKENS.caller_of(token)


class Clocks:
    """Both clocks; they go on together unless told otherwise."""

    def __init__(self) -> None:
        self.measured = 5.0
        self.dated = NOON

    def go_on(self, seconds: float) -> None:
        self.measured += seconds
        self.dated += seconds

    def freeze_for(self, seconds: float) -> None:
        """What Lambda does: the monotonic clock knows nothing of it."""
        self.dated += seconds


class Issuer:
    """What answers for the key set, and counts how often it was asked."""

    def __init__(self) -> None:
        self.text: bytes | None = MAKER.jwks_text
        self.asked = 0

    def fetch(self) -> bytes:
        self.asked += 1
        if self.text is None:
            raise SetUnreadable("it is down")
        return self.text

    def publish(self, *keys: dict[str, Any]) -> None:
        self.text = json.dumps({"keys": keys}).encode()


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def keys(issuer: Issuer, clocks: Clocks) -> SigningKeys:
    return SigningKeys(issuer.fetch, clock=lambda: clocks.measured, wall_clock=lambda: clocks.dated)


def jwk(kid: str) -> dict[str, Any]:
    return public_jwk(ec_key(kid), kid=kid)


# -- who calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_a_token_tells_tenant_subject_and_scopes(maker: TokenMaker) -> None:
    token = maker.token(tenant="t1", scopes=["runs:read", "runs:write"], sub="Jörg|7")
    assert maker.tokens().caller_of(token) == Caller(
        tenant_id="t1",
        subject="Jörg|7",
        scopes=frozenset({Scope.RUNS_READ, Scope.RUNS_WRITE}),
    )


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": "runs:read admin"},
        {"scope": ["runs:read", "admin"]},
        {"scope": "", "scp": ["admin", "runs:read"]},
        {"scope": "openid  profile runs:read", "scp": "admin"},
        {"scope": "runs:read admin RUNS:WRITE runs:* runs:writer"},
    ],
)
def test_s3_scopes_come_from_either_claim_and_unknown_ones_mean_nothing(
    claims: dict[str, Any],
) -> None:
    assert caller_of(MAKER.token(**claims)).scopes == {Scope.RUNS_READ, Scope.ADMIN}


def test_s3_a_token_without_scopes_allows_nothing() -> None:
    caller = caller_of(MAKER.token(without=["scope"]))
    assert not any(caller.may(scope) for scope in Scope)


@pytest.mark.parametrize("tenant", ["a", "0", "t-1.x_y", "x" * 63])
def test_s4_the_tenant_is_the_tokens(tenant: str) -> None:
    assert caller_of(MAKER.token(tenant=tenant)).tenant_id == tenant


def test_s4_the_tenants_claim_has_the_name_that_is_set() -> None:
    tokens = OidcTokens(
        issuer=ISSUER,
        audience=AUDIENCE,
        jwks_url=f"{ISSUER}/keys",
        tenant_claim="https://example.test/org",
        clock=lambda: 0.0,
        wall_clock=lambda: NOON,
        fetch=MAKER.fetch,
    )
    named: dict[str, Any] = {"https://example.test/org": "right"}
    token = MAKER.token(tenant="wrong", **named)
    assert tokens.caller_of(token).tenant_id == "right"
    with pytest.raises(TokenRefused, match=re.escape("https://example.test/org")):
        tokens.caller_of(MAKER.token(tenant="wrong"))


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
def test_a_token_of_access_is_accepted_under_each_of_its_types(kind: str | None) -> None:
    assert caller_of(MAKER.token(headers={"typ": kind})).subject == "alice"


def test_a_token_for_several_audiences_is_accepted_if_we_are_one() -> None:
    assert caller_of(MAKER.token(aud=["other", AUDIENCE])).subject == "alice"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOON - 59},
        {"exp": int(NOON) - 59.5},
        {"exp": 10**300},
        {"nbf": NOON + 60},
        {"iat": NOON + 60},
    ],
)
def test_s2_clocks_may_be_a_minute_apart(claims: dict[str, Any]) -> None:
    assert caller_of(MAKER.token(**claims)).subject == "alice"


@pytest.mark.parametrize(
    "claims", [{"exp": NOON - 60}, {"nbf": NOON + 60.5}, {"iat": NOON + 61}, {"nbf": 10**300}]
)
def test_s2_clocks_may_not_be_more_than_a_minute_apart(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        caller_of(MAKER.token(**claims))


@pytest.mark.parametrize("without", ["nbf", "iat"])
def test_a_token_needs_no_beginning(without: str) -> None:
    assert caller_of(MAKER.token(without=[without])).subject == "alice"


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(("maker", "token"), BROKEN)
def test_s2_a_bad_token_is_refused_in_words_that_may_be_shown(
    maker: TokenMaker, token: str
) -> None:
    with pytest.raises(TokenRefused, match=r"^The token('s)? [A-Za-z0-9 ,()+':_-]{5,80}$"):
        maker.tokens().caller_of(token)


def test_s2_a_token_may_be_8_kib_long_and_no_longer() -> None:
    spare = LONGEST_TOKEN - len(MAKER.token(more=""))
    longest = MAKER.token(more="x" * (spare * 3 // 4 - 4))
    assert LONGEST_TOKEN - 10 < len(longest) <= LONGEST_TOKEN
    assert caller_of(longest).subject == "alice"
    with pytest.raises(TokenRefused, match="longer than 8 KiB"):
        caller_of(longest + "x" * 10)


ANY = st.characters() | st.sampled_from("=.-_ \n") | st.characters(codec="ascii")


@given(st.integers(0, len(GOOD) - 1), ANY)
def test_s2_a_token_with_another_character_is_refused(at: int, character: str) -> None:
    changed = GOOD[:at] + character + GOOD[at + 1 :]
    if changed != GOOD:
        with pytest.raises(TokenRefused):
            caller_of(changed)


@given(st.integers(0, len(GOOD)), st.text(ANY, min_size=1))
def test_s2_a_token_with_something_put_in_is_refused(at: int, text: str) -> None:
    with pytest.raises(TokenRefused):
        caller_of(GOOD[:at] + text + GOOD[at:])


@given(st.integers(0, len(GOOD) - 1), st.integers(1, len(GOOD)))
def test_s2_a_token_with_something_left_out_is_refused(at: int, length: int) -> None:
    with pytest.raises(TokenRefused):
        caller_of(GOOD[:at] + GOOD[at + length :])


@given(st.text() | st.text("abcXYZ019-_.", max_size=300))
def test_s2_garbage_is_refused(text: str) -> None:
    with pytest.raises(TokenRefused):
        caller_of(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["iss", "aud", "sub", TENANT_CLAIM, "scope", "scp", "iat", "nbf", "exp"])


@given(st.dictionaries(NAMES, JSON, min_size=1))
def test_s2_a_signed_token_says_something_sound_or_is_refused(claims: dict[str, Any]) -> None:
    try:
        caller = caller_of(MAKER.token(**claims))
    except TokenRefused:
        return
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", caller.tenant_id)
    assert caller.subject
    assert caller.scopes <= set(Scope)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "b64", "crit", "x5t"]), JSON))
def test_s2_odd_headers_do_no_more_than_have_a_token_refused(headers: dict[str, object]) -> None:
    try:
        assert caller_of(MAKER.token(headers=headers)).tenant_id == "default"
    except TokenRefused:
        return


# -- keys -----------------------------------------------------------------------------------------


def test_s2_a_key_is_asked_for_once_and_not_before_it_is_needed(
    keys: SigningKeys, issuer: Issuer, clocks: Clocks
) -> None:
    assert issuer.asked == 0
    for _ in range(10):
        assert keys.key("key-1", "ES256").key_id == "key-1"
        clocks.go_on(MINUTE)
    assert issuer.asked == 1


def test_s2_a_thousand_unknown_keys_cost_one_fetch_a_minute(
    keys: SigningKeys, issuer: Issuer, clocks: Clocks
) -> None:
    keys.key("key-1", "ES256")
    for number in range(1_000):
        with pytest.raises(TokenRefused):
            keys.key(f"unknown-{number}", "ES256")
        clocks.go_on(0.3)  # 300 s in all
    assert 1 < issuer.asked <= 1 + 300 / MINUTE


def test_s2_unknown_keys_cost_no_more_while_the_issuer_is_down(
    keys: SigningKeys, issuer: Issuer, clocks: Clocks
) -> None:
    keys.key("key-1", "ES256")
    issuer.text = None
    for number in range(1_000):
        with pytest.raises(TokenRefused):
            keys.key(f"unknown-{number}", "ES256")
        clocks.go_on(0.3)
    assert 1 < issuer.asked <= 1 + 300 / MINUTE
    assert keys.key("key-1", "ES256").key_id == "key-1"


def test_s2_while_no_key_is_known_the_issuer_is_asked_every_five_seconds_at_most(
    keys: SigningKeys, issuer: Issuer, clocks: Clocks
) -> None:
    issuer.text = None
    for _ in range(100):
        with pytest.raises(TokensUnavailable) as raised:
            keys.key("key-1", "ES256")
        assert str(raised.value.__cause__) == "it is down"
        clocks.go_on(0.3)  # 30 s in all
    assert 1 < issuer.asked <= 1 + 30 / 5

    issuer.text = MAKER.jwks_text
    clocks.go_on(5)
    assert keys.key("key-1", "ES256").key_id == "key-1"


def test_s2_a_new_key_is_known_within_a_minute(
    keys: SigningKeys, issuer: Issuer, clocks: Clocks
) -> None:
    keys.key("key-1", "ES256")
    issuer.publish(jwk("key-1"), jwk("key-2"))
    clocks.go_on(MINUTE)
    assert keys.key("key-2", "ES256").key_id == "key-2"


@pytest.mark.parametrize("pass_time", [Clocks.go_on, Clocks.freeze_for])
def test_s2_a_key_that_the_issuer_withdrew_is_refused_after_an_hour(
    keys: SigningKeys,
    issuer: Issuer,
    clocks: Clocks,
    pass_time: Callable[[Clocks, float], None],
) -> None:
    keys.key("key-1", "ES256")
    clocks.go_on(MINUTE)
    issuer.publish(jwk("key-2"))
    pass_time(clocks, HOUR - MINUTE - 1)
    assert keys.key("key-1", "ES256").key_id == "key-1"
    pass_time(clocks, 1)
    with pytest.raises(TokenRefused):
        keys.key("key-1", "ES256")
    assert keys.key("key-2", "ES256").key_id == "key-2"
    assert issuer.asked == 2


@pytest.mark.parametrize("text", [None, b"", b"<html>", b"[]", b"{}", b'{"keys": {}}'])
def test_s2_known_keys_serve_for_a_day_while_the_issuer_is_down(
    keys: SigningKeys, issuer: Issuer, clocks: Clocks, text: bytes | None
) -> None:
    keys.key("key-1", "ES256")
    issuer.text = text
    clocks.go_on(DAY - 1)
    assert keys.key("key-1", "ES256").key_id == "key-1"
    clocks.go_on(1)
    with pytest.raises(TokensUnavailable):
        keys.key("key-1", "ES256")


def test_s2_an_issuer_that_has_withdrawn_all_keys_is_believed(
    keys: SigningKeys, issuer: Issuer, clocks: Clocks
) -> None:
    keys.key("key-1", "ES256")
    issuer.publish()
    clocks.go_on(HOUR)
    with pytest.raises(TokenRefused):
        keys.key("key-1", "ES256")


def test_s2_a_clock_that_was_put_back_makes_no_key_younger(
    keys: SigningKeys, issuer: Issuer, clocks: Clocks
) -> None:
    keys.key("key-1", "ES256")
    issuer.publish()
    clocks.go_on(HOUR)
    clocks.dated -= DAY
    with pytest.raises(TokenRefused):
        keys.key("key-1", "ES256")


# -- what a set holds -----------------------------------------------------------------------------

EC, RSA = ec_key("ec"), rsa_key("rsa")
UNFIT: dict[str, dict[str, Any]] = {
    "no kid": public_jwk(EC),
    "kid no text": public_jwk(EC, kid=["key"]),
    "for encryption": public_jwk(RSA, kid="key", use="enc"),
    "for signing only": public_jwk(EC, kid="key", key_ops=["sign"]),
    "uses no list": public_jwk(EC, kid="key", key_ops=7),
    "for HS256": public_jwk(RSA, kid="key", alg="HS256"),
    "for RSA's newer padding": public_jwk(RSA, kid="key", alg="PS256"),
    "for the other algorithm": public_jwk(EC, kid="key", alg="RS256"),
    "a longer curve": public_jwk(generate_private_key(SECP384R1()), kid="key"),
    "a curve of another name": public_jwk(EC, kid="key", crv="P-384"),
    "RSA of 1024 bits": public_jwk(rsa_key("short", 1_024), kid="key"),
    "a secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "key", "alg": "HS256"},
    "a private key": ECAlgorithm.to_jwk(EC, as_dict=True) | {"kid": "key", "key_ops": ["verify"]},
    "another kind": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "key"},
    "no point of the curve": public_jwk(EC, kid="key", x="AAAA"),
    "RSA without a modulus": {"kty": "RSA", "e": "AQAB", "kid": "key"},
    "RSA with a list": {"kty": "RSA", "e": "AQAB", "n": [1], "kid": "key"},
}


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
def test_s2_a_key_that_fits_no_algorithm_of_ours_is_none_and_spoils_no_other(
    keys: SigningKeys, issuer: Issuer, unfit: dict[str, Any]
) -> None:
    issuer.publish(unfit, jwk("key-1"))
    assert keys.key("key-1", "ES256").key_id == "key-1"
    for algorithm in ("ES256", "RS256"):
        with pytest.raises(TokenRefused):
            keys.key("key", algorithm)


def test_s2_a_key_is_good_for_its_own_algorithm_only(keys: SigningKeys, issuer: Issuer) -> None:
    issuer.publish(public_jwk(RSA, kid="rsa"), public_jwk(EC, kid="ec", key_ops=["verify"]))
    assert keys.key("rsa", "RS256").algorithm_name == "RS256"
    assert keys.key("ec", "ES256").algorithm_name == "ES256"
    for kid, algorithm in (("rsa", "ES256"), ("ec", "RS256"), ("rsa", "HS256")):
        with pytest.raises(TokenRefused):
            keys.key(kid, algorithm)


FINITE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.sampled_from(["kty", "kid", "alg", "use", "key_ops", "crv", "x", "y", "n", "e"])


@given(st.lists(FINITE | st.dictionaries(MEMBERS, FINITE), max_size=3), st.sampled_from([EC, RSA]))
def test_s2_whatever_else_a_set_holds_its_good_keys_are_found(others: list[Any], key: Any) -> None:
    mixed = [public_jwk(key) | other for other in others if isinstance(other, dict)]
    good = public_jwk(EC, kid="the good one")
    text = json.dumps({"keys": [*others, *mixed, good]}).encode()
    keys = SigningKeys(lambda: text, clock=lambda: 0.0, wall_clock=lambda: NOON)
    assert keys.key("the good one", "ES256").key_id == "the good one"


# -- where the keys are ---------------------------------------------------------------------------


def test_keys_may_lie_in_a_file_of_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "a folder" / "jwks.json"
    file.parent.mkdir()
    file.write_bytes(MAKER.jwks_text)
    assert fetch_set(file.as_uri()) == MAKER.jwks_text

    with pytest.raises(SetUnreadable):
        fetch_set((tmp_path / "none.json").as_uri())
    with pytest.raises(SetUnreadable):
        fetch_set(tmp_path.as_uri())


def test_s10_a_file_of_keys_has_64_kib_at_most(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(b" " * LARGEST_SET)
    assert len(fetch_set(file.as_uri())) == LARGEST_SET
    file.write_bytes(b" " * (LARGEST_SET + 1))
    with pytest.raises(SetUnreadable, match="64 KiB"):
        fetch_set(file.as_uri())


def tokens_from(jwks_url: str) -> OidcTokens:
    return OidcTokens(
        issuer=ISSUER,
        audience=AUDIENCE,
        jwks_url=jwks_url,
        tenant_claim=TENANT_CLAIM,
        clock=lambda: 0.0,
        wall_clock=lambda: NOON,
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://issuer.test/keys",
        "http://127.0.0.1:8080/keys",
        "http://[::1]/keys",
        "http://localhost/keys",
        "file:///somewhere/jwks.json",
    ],
)
def test_s2_keys_come_over_tls_or_from_this_machine(url: str) -> None:
    assert tokens_from(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "jwks.json",
        "https://",
        "https://[",
        "http://issuer.test/keys",
        "http://127.0.0.1.issuer.test/keys",
        "http://10.0.0.1/keys",
        "file://server/jwks.json",
        "file:jwks.json",
        "ftp://127.0.0.1/keys",
    ],
)
def test_s2_keys_do_not_come_in_a_way_that_others_can_meddle_with(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="OIDC_JWKS_URL"):
        tokens_from(url)
