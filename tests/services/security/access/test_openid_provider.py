"""An OpenID Connect provider as a client sees it: what of its answers is believed, and why not."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwk, jwt

from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.openid_provider import (
    Attempt,
    OpenIdProvider,
    OpenIdRules,
    Person,
    ProviderUnavailableError,
    is_provider_url,
)

ISSUER = "https://idp.example/realm"
BACK = "https://archive.example/sign-in/oidc/callback"
KEY = jwk.RSAKey.generate_key(2048, {"kid": "1", "use": "sig"})
OTHER_KEY = jwk.RSAKey.generate_key(2048, {"kid": "1", "use": "sig"})
METADATA: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": "https://login.example/authorize?tenant=1",
    "token_endpoint": "https://idp.example/token",
    "jwks_uri": "https://idp.example/keys",
    "userinfo_endpoint": "https://idp.example/me",
    "end_session_endpoint": "https://idp.example/logout",
    "code_challenge_methods_supported": ["plain", "S256"],
}


class Idp:
    """Answers as its fields say, and remembers what it was asked."""

    def __init__(self) -> None:
        self.metadata = dict(METADATA)
        self.key: Any = KEY
        self.algorithm = "RS256"
        self.claims: dict[str, Any] = {}
        self.token: tuple[int, Any] | None = None
        self.info: dict[str, Any] = {"sub": "s1"}
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.is_down = False

    def ask(
        self,
        url: str,
        context: object,
        *,
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        self.asked.append((url, form or {}, headers or {}))
        if self.is_down:
            raise OSError("connection refused")
        if url == f"{ISSUER}/.well-known/openid-configuration":
            return 200, json.dumps(self.metadata).encode()
        if url.endswith("/keys"):
            return 200, json.dumps({"keys": [KEY.as_dict(private=False)]}).encode()
        if url.endswith("/me"):
            return 200, json.dumps(self.info).encode()
        assert url.endswith("/token")
        status, body = self.token or (200, {"access_token": "at", "id_token": self.id_token()})
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()

    def id_token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER, "aud": "archive", "sub": "s1", "nonce": "N", "iat": now,
            "exp": now + 60, "preferred_username": "alice", "groups": ["radiology", "all"],
        } | self.claims  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": self.algorithm, "kid": "1"}, claims, self.key)


@pytest.fixture
def idp() -> Idp:
    return Idp()


def provider_of(
    idp: Idp, clock: Callable[[], float] = time.monotonic, **rules: Any
) -> OpenIdProvider:
    values: dict[str, Any] = {
        "issuer": ISSUER,
        "client_id": "archive",
        "roles": {"radiology": ("Radiologist", "Viewer"), "admins": ("Administrator",)},
        "algorithms": ("RS256",),
    }
    return OpenIdProvider(OpenIdRules(**{**values, **rules}), idp.ask, clock)


ATTEMPT = Attempt(state="S", nonce="N", verifier="V" * 43, goes_to="/")


def finished(idp: Idp, **rules: Any) -> Person:
    return provider_of(idp, **rules).finish("the code", ATTEMPT, BACK)


def test_a_browser_is_sent_with_secrets_of_its_own(idp: Idp) -> None:
    address = urlsplit(provider_of(idp).begin(ATTEMPT, BACK))
    assert address.netloc == "login.example"
    said = {name: value for name, (value,) in parse_qs(address.query).items()}
    assert len(said.pop("code_challenge")) == 43
    assert said == {
        "tenant": "1", "response_type": "code", "client_id": "archive", "redirect_uri": BACK,
        "scope": "openid profile", "state": "S", "nonce": "N", "code_challenge_method": "S256",
    }  # fmt: skip
    first, second = Attempt.new("/"), Attempt.new("/")
    assert len({*(first.state, first.nonce, first.verifier), *(second.state, second.nonce)}) == 5
    assert 43 <= len(first.verifier) <= 128


def test_the_challenge_is_that_of_the_verifier(idp: Idp) -> None:
    """The example of RFC 7636, Appendix B."""
    attempt = Attempt(
        state="S", nonce="N", verifier="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", goes_to="/"
    )
    said = parse_qs(urlsplit(provider_of(idp).begin(attempt, BACK)).query)
    assert said["code_challenge"] == ["E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"]


def test_who_signs_in_has_a_name_and_the_roles_of_the_groups(idp: Idp) -> None:
    person = finished(idp)
    assert (person.subject, person.name) == ("s1", "alice (idp.example)")
    assert person.roles == ("Radiologist", "Viewer")
    _, form, headers = next(one for one in idp.asked if one[0].endswith("/token"))
    assert form == {
        "grant_type": "authorization_code", "code": "the code", "redirect_uri": BACK,
        "code_verifier": ATTEMPT.verifier, "client_id": "archive",
    }  # fmt: skip
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("claims", "rules", "roles"),
    [
        ({"groups": "radiology"}, {}, ("Radiologist", "Viewer")),
        ({"groups": ["radiology", "admins"]}, {}, ("Radiologist", "Viewer", "Administrator")),
        ({"groups": [7, None]}, {}, ()),
        ({"groups": {"radiology": 1}}, {}, ()),
        ({"realm": {"x": ["admins"]}}, {"groups_claim": "realm.x"}, ("Administrator",)),
        ({"https://x.y/z": ["admins"]}, {"groups_claim": "https://x.y/z"}, ("Administrator",)),
    ],
)
def test_groups_are_read_as_providers_write_them(
    claims: dict[str, Any], rules: dict[str, Any], roles: tuple[str, ...], idp: Idp
) -> None:
    idp.claims = claims
    assert finished(idp, **rules).roles == roles


def test_groups_are_asked_for_where_the_token_lacks_them(idp: Idp) -> None:
    idp.claims = {"groups": None}
    idp.info = {"sub": "s1", "groups": ["admins"]}
    assert finished(idp).roles == ("Administrator",)
    assert idp.asked[-1][2]["authorization"] == "Bearer at"
    idp.info["sub"] = "s2"
    with pytest.raises(PolicyError, match="two people"):
        finished(idp)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"nonce": "M"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"iss": "https://other.example"}, "not believed"),
        ({"aud": "another"}, "not believed"),
        ({"aud": ["archive", "another"]}, "azp"),
        ({"azp": "another"}, "azp"),
        ({"exp": int(time.time()) - 61}, "not believed"),
        ({"exp": None}, "not believed"),
        ({"sub": None}, "not believed"),
        ({"sub": ""}, "names nobody|not believed"),
        ({"nbf": int(time.time()) + 10**6}, "not believed"),  # the test may run hours later
    ],
)
def test_a_token_that_is_for_something_else_is_not_believed(
    claims: dict[str, Any], why: str, idp: Idp
) -> None:
    idp.claims = claims
    with pytest.raises(PolicyError, match=why) as refused:
        finished(idp)
    assert not isinstance(refused.value, ProviderUnavailableError)


def test_clocks_may_differ_a_little(idp: Idp) -> None:
    idp.claims = {"exp": int(time.time()) - 30, "aud": ["archive", "b"], "azp": "archive"}
    assert finished(idp).subject == "s1"
    with pytest.raises(PolicyError):
        finished(idp, clock_skew=5)


def test_a_token_of_another_key_or_algorithm_is_not_believed(idp: Idp) -> None:
    idp.key = OTHER_KEY
    with pytest.raises(PolicyError):
        finished(idp)
    # No signature at all.
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    body = idp.id_token().split(".")[1]
    idp.token = (200, {"id_token": f"{head}.{body}."})
    with pytest.raises(PolicyError):
        finished(idp)


@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        ((400, {"error": "invalid_grant"}), PolicyError, "invalid_grant"),
        ((401, {"error": "invalid_client<b>"}), PolicyError, "invalid_clientb"),
        ((500, b"oops"), ProviderUnavailableError, "HTTP 500"),
        ((302, b""), ProviderUnavailableError, "HTTP 302"),
        ((200, b"[]"), ProviderUnavailableError, "HTTP 200"),
        ((200, {"access_token": "x"}), PolicyError, "no ID token"),
        ((200, {"id_token": 7}), PolicyError, "no ID token"),
        ((200, {"id_token": "é.b.c"}), PolicyError, "not believed"),
    ],
)
def test_what_the_provider_says_in_place_of_a_token_is_told(
    answer: tuple[int, Any], kind: type[PolicyError], why: str, idp: Idp
) -> None:
    idp.token = answer
    with pytest.raises(PolicyError, match=why) as refused:
        finished(idp)
    assert type(refused.value) is kind


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"issuer": ISSUER + "/"}, "calls itself"),
        ({"issuer": None}, "calls itself"),
        ({"token_endpoint": "http://idp.example/token"}, "token_endpoint"),
        ({"token_endpoint": "http://127.0.0.1/token"}, "in the clear"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "authorization_endpoint"),
        ({"jwks_uri": None}, "jwks_uri"),
        ({"end_session_endpoint": "file:///etc/passwd"}, "end_session_endpoint"),
        ({"code_challenge_methods_supported": ["plain"]}, "PKCE"),
    ],
)
def test_metadata_that_cannot_be_used_are_told(changes: dict[str, Any], why: str, idp: Idp) -> None:
    idp.metadata |= changes
    with pytest.raises(ProviderUnavailableError, match=why):
        provider_of(idp).begin(ATTEMPT, BACK)


def test_metadata_are_kept_for_an_hour_and_used_on_while_there_are_no_newer(idp: Idp) -> None:
    now = [0.0]
    provider = provider_of(idp, lambda: now[0])
    for _ in range(3):
        provider.begin(ATTEMPT, BACK)
    assert len(idp.asked) == 1
    now[0], idp.is_down = 4_000.0, True
    assert provider.begin(ATTEMPT, BACK)
    assert len(idp.asked) == 2
    with pytest.raises(ProviderUnavailableError, match="connection refused"):
        provider_of(idp).begin(ATTEMPT, BACK)


@pytest.mark.parametrize("ways", [None, ["client_secret_basic"], ["client_secret_post"]])
def test_a_secret_is_shown_as_the_provider_takes_it(
    ways: list[str] | None, idp: Idp, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("s:e%c\n")
    if ways is not None:
        idp.metadata["token_endpoint_auth_methods_supported"] = ways
    finished(idp, client_secret_file=file)
    _, form, headers = next(one for one in idp.asked if one[0].endswith("/token"))
    if ways == ["client_secret_post"]:
        assert form["client_secret"] == "s:e%c"
    else:
        # Each is written as in a form before they are joined (RFC 6749 2.3.1).
        pair = base64.b64decode(headers["authorization"].removeprefix("Basic "))
        assert pair == b"archive:s%3Ae%25c"
        assert "client_secret" not in form


def test_a_secret_that_is_not_there_is_told(idp: Idp, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"oidc\.client_secret_file"):
        provider_of(idp, client_secret_file=tmp_path / "none")


def test_whoever_signs_out_is_led_to_the_provider(idp: Idp) -> None:
    address = urlsplit(provider_of(idp).logout("the token", "https://archive.example/sign-in"))
    assert parse_qs(address.query) == {
        "id_token_hint": ["the token"],
        "client_id": ["archive"],
        "post_logout_redirect_uri": ["https://archive.example/sign-in"],
    }
    del idp.metadata["end_session_endpoint"]
    assert provider_of(idp).logout("the token", "/") == ""
    idp.is_down = True
    assert provider_of(idp).logout("the token", "/") == ""


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("https://idp.example", True),
        ("https://idp.example:8443/realms/x", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost:8080/x", True),
        ("http://idp.example", False),
        ("http://169.254.169.254/latest", False),
        ("https://user:pw@idp.example", False),
        ("https://", False),
        ("https://idp.example/#x", False),
        ("ftp://idp.example", False),
        ("https://idp.example:99999", False),
    ],
)
def test_where_a_provider_may_be(url: str, is_one: bool) -> None:
    assert is_provider_url(url) is is_one
