"""Who is served over HTTP: programs on this machine, certificates, tokens; and for what."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk, jwt

from isocenter.services.archive.deidentification.project import Project
from isocenter.services.errors import StorageError
from isocenter.services.net.http.cross_origin import AllowedOrigins
from isocenter.services.net.http.exchange import Message
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.net.peer_identity import PeerIdentity
from isocenter.services.notices import AccessDenied
from isocenter.services.security.access.api_tokens import ApiTokenVerifier, new_token
from isocenter.services.security.access.enforcement import Enforcement
from isocenter.services.security.access.failed_sign_ins import SignInFailed
from isocenter.services.security.access.permissions import ALL_PERMISSIONS, parse_permission
from isocenter.services.security.access.policy import (
    ApplicationEntity,
    CertificateRule,
    Policy,
    User,
)
from isocenter.services.security.access.ports import ApiToken
from isocenter.services.security.access.recipients import Recipients
from isocenter.services.security.access.tokens import TokenRules
from isocenter.services.security.access.user_identity import IdentityRules
from isocenter.services.web.access import WebAccess
from isocenter.services.web.principal import Principal, caller_of
from services.security.access.policy_support import NOBODY, control, entities, heard, users


async def _handler(request: Request) -> Response:
    return Response()


def route_of(needs: str) -> Route[Any]:
    return Route(method="GET", path="/studies", handler=_handler, text="", needs=needs)


ROUTE = route_of("write")
FINGERPRINT = "ab" * 32
KEY = jwk.ECKey.generate_key("P-256")


def identity_of(name: str) -> PeerIdentity:
    return PeerIdentity(
        common_name=name,
        subject_alternative_names=(),
        fingerprint=FINGERPRINT,
        subject=f"CN={name}",
        issuer="CN=CA",
        serial_number=1,
    )


def request_of(
    method: str = "GET",
    client: str = "127.0.0.1",
    host: str | None = "localhost:8080",
    scheme: str = "http",
    identity: PeerIdentity | None = None,
    **headers: str,
) -> Request:
    async def receive() -> Message:
        raise AssertionError("there is no body")

    return Request(
        {
            "method": method,
            "scheme": scheme,
            "raw_path": b"/",
            "client": (client, 1),
            "isocenter.authority": host,
            "isocenter.identity": identity,
            "headers": [
                (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
            ],
        },
        receive,
    )


def access_of(folder: Path, *edits: Callable[[Policy], Policy], **options: Any) -> WebAccess:
    return WebAccess(control(folder, *edits, **options), heard()[0])


async def refused(access: WebAccess, request: Request, needs: str = "write") -> HttpError:
    with pytest.raises(HttpError) as caught:
        await access(request, route_of(needs))
    return caught.value


@pytest.mark.parametrize(
    "request_",
    [
        request_of(),
        request_of(client="::1", host="[::1]:8080"),
        request_of("POST"),
        request_of("POST", origin="http://localhost:8080"),
        request_of("POST", sec_fetch_site="same-origin", origin="http://localhost:8080"),
        request_of("POST", sec_fetch_site="none"),
        request_of(sec_fetch_site="cross-site"),  # a link that somebody follows
    ],
)
async def test_programs_on_this_machine(request_: Request, tmp_path: Path) -> None:
    await access_of(tmp_path)(request_, ROUTE)
    assert caller_of(request_).user == ""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (request_of(client="10.0.0.7"), 401),
        (request_of(client="10.0.0.7", host="archive.example"), 401),
        (request_of(scheme="https"), 401),  # over TLS others stand in between: prove it
        (request_of(host="evil.example"), 403),
        (request_of(host="evil.example:8080"), 403),
        (request_of(host="127.0.0.1.evil.example"), 403),
        (request_of("POST", origin="http://evil.example"), 403),
        (request_of("POST", origin="null"), 403),
        (request_of("POST", origin="http://localhost:9999"), 403),
        (request_of("DELETE", sec_fetch_site="cross-site"), 403),
        (request_of("POST", sec_fetch_site="same-site"), 403),
        # A proxy on this machine, and nobody knows for whom.
        (request_of(x_forwarded_for="127.0.0.1"), 401),
        (request_of(forwarded="for=127.0.0.1"), 401),
        (request_of(via="1.1 proxy"), 401),
    ],
)
async def test_not_served(request_: Request, status: int, tmp_path: Path) -> None:
    error = await refused(access_of(tmp_path), request_)
    assert error.status == status
    assert ("www-authenticate" in dict(error.headers)) is (status == 401)


async def test_pages_of_an_allowed_origin_may_change_something(tmp_path: Path) -> None:
    origins = AllowedOrigins(frozenset({"https://viewer.example"}))
    access = WebAccess(
        control(tmp_path), heard()[0], origins=origins, own_origin="https://archive.example"
    )
    for origin in ("https://viewer.example", "https://archive.example", "http://localhost:8080"):
        await access(request_of("POST", origin=origin), ROUTE)
    assert (await refused(access, request_of("POST", origin="https://x.example"))).status == 403


async def test_the_certificate_of_a_proxy_is_not_the_callers(tmp_path: Path) -> None:
    request = over_tls()
    request.is_passed_on = True
    assert (await refused(access_of(tmp_path), request)).status == 401


# -- Certificates -------------------------------------------------------------------------


def over_tls(name: str = "VIEWER", client: str = "10.0.0.7") -> Request:
    return request_of(
        client=client, host="archive.example", scheme="https", identity=identity_of(name)
    )


async def test_a_certificate_of_the_ca_without_a_policy(tmp_path: Path) -> None:
    request = over_tls()
    await access_of(tmp_path)(request, ROUTE)
    assert (caller_of(request).certificate, caller_of(request).is_tls) == ("VIEWER", True)


async def test_a_certificate_is_whoever_may_call_with_it(tmp_path: Path) -> None:
    viewer = ApplicationEntity(
        ae_title="ANY", certificates=(CertificateRule(fingerprint=FINGERPRINT),), roles=("Viewer",)
    )
    access = access_of(tmp_path, entities(viewer))
    for needs in ("search", "read"):
        await access(over_tls(), route_of(needs))
    assert (await refused(access, over_tls(), "write")).status == 403


async def test_what_needs_no_permission_is_for_whoever_is_known(tmp_path: Path) -> None:
    nothing = ApplicationEntity(ae_title="VIEWER", roles=("Viewer",), denied=ALL_PERMISSIONS)
    access = access_of(tmp_path, entities(nothing))
    await access(over_tls(), replace(ROUTE, needs=None))
    assert (await refused(access, over_tls(), "search")).status == 403
    with pytest.raises(HttpError) as caught:
        await access(request_of(client="10.0.0.7"), replace(ROUTE, needs=None))
    assert caught.value.status == 401


async def test_a_certificate_that_owns_an_ae_title(tmp_path: Path) -> None:
    entity = ApplicationEntity(ae_title="VIEWER", roles=("Viewer",), addresses=("10.0.0.0/8",))
    access = access_of(tmp_path, entities(entity))
    await access(over_tls(), route_of("read"))
    for request in (over_tls("OTHER"), over_tls(client="192.168.1.1")):
        assert (await refused(access, request, "read")).status == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"denied": parse_permission("study:read")},
        {"certificates": (CertificateRule(fingerprint="cd" * 32),)},
    ],
)
async def test_what_the_policy_denies(changes: dict[str, Any], tmp_path: Path) -> None:
    entity = ApplicationEntity(ae_title="VIEWER", roles=("Viewer",), **changes)
    access = access_of(tmp_path, entities(entity))
    assert (await refused(access, over_tls(), "read")).status == 403


async def test_a_connection_that_has_outlived_its_certificate(tmp_path: Path) -> None:
    request = over_tls()
    assert request.identity is not None
    request._scope["isocenter.identity"] = replace(request.identity, ends_at=time.time() - 1)
    error = await refused(access_of(tmp_path), request, "read")
    assert (error.status, error.code) == (401, "CERTIFICATE_EXPIRED")
    request._scope["isocenter.identity"] = replace(request.identity, ends_at=time.time() + 60)
    await access_of(tmp_path)(request, route_of("read"))


async def test_what_was_refused_is_told(tmp_path: Path) -> None:
    notices, told = heard()
    entity = ApplicationEntity(ae_title="VIEWER", roles=("Viewer",))
    access = WebAccess(control(tmp_path, entities(entity)), notices)
    await refused(access, over_tls(), "write")
    (notice,) = told
    assert isinstance(notice, AccessDenied)
    assert (notice.caller.certificate, notice.command) == ("VIEWER", "GET /studies")
    assert "study:write" in notice.why


# -- Tokens -------------------------------------------------------------------------------


@pytest.fixture
def access(tmp_path: Path) -> WebAccess:
    """With users carol, who reads, and dave, who was deactivated; tokens of an issuer."""
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [KEY.as_dict(private=False)]}))
    rules = TokenRules(keys=keys, issuer="https://idp", audience="isocenter", algorithms=("ES256",))
    people = users(
        User(name="carol", roles=("Viewer",), subjects=("carol@example.org",)),
        User(name="dave", roles=("Viewer",), active=False),
    )
    return WebAccess(
        control(tmp_path, people, settings=NOBODY, rules=IdentityRules(tokens=rules)), heard()[0]
    )


def bearer(key: Any = KEY, **changes: Any) -> str:
    claims = {
        "iss": "https://idp",
        "aud": "isocenter",
        "sub": "carol@example.org",
        "exp": int(time.time()) + 600,
    } | changes
    return "Bearer " + jwt.encode({"alg": "ES256"}, claims, key, algorithms=["ES256"])


def with_token(authorization: str, **more: Any) -> Request:
    return request_of(
        client="10.0.0.7", host="archive.example", authorization=authorization, **more
    )


async def test_a_token_means_its_user(access: WebAccess) -> None:
    request = with_token(bearer())
    await access(request, route_of("read"))
    assert isinstance(request.caller, Principal)
    assert caller_of(request).user == "carol"
    assert (await refused(access, with_token(bearer()), "write")).code == "NOT_ALLOWED"
    # Also on this machine, where nobody would be needed: whoever shows one is that one.
    local = request_of(authorization=bearer())
    assert (await refused(access, local, "write")).code == "NOT_ALLOWED"


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer nonsense",
        "Bearer a.b.c",
        bearer(exp=int(time.time()) - 600),
        bearer(iss="https://other"),
        bearer(aud="other"),
        bearer(sub="nobody"),
        bearer(sub="dave"),
        bearer(key=jwk.ECKey.generate_key("P-256")),
    ],
)
async def test_a_token_that_is_not_believed(access: WebAccess, authorization: str) -> None:
    for request in (with_token(authorization), request_of(authorization=authorization)):
        error = await refused(access, request, "read")
        assert (error.status, error.code) == (401, "TOKEN_REFUSED")
        assert "invalid_token" in dict(error.headers)["www-authenticate"]


async def test_failures_are_counted_and_keep_out_no_good_token(tmp_path: Path) -> None:
    notices, told = heard()
    text, tokens = await one_api_token(tmp_path)
    access = WebAccess(control(tmp_path), notices, tokens)
    codes = [(await refused(access, with_token("Bearer iso_x"), "read")).status for _ in range(12)]
    assert codes == [401] * 9 + [429] * 3
    error = await refused(access, with_token("Bearer iso_x"), "read")
    assert 0 < int(dict(error.headers)["retry-after"]) <= 60
    await access(with_token(f"Bearer {text}"), route_of("read"))
    other = request_of(client="10.0.0.8", host="archive.example", authorization="Bearer iso_x")
    assert (await refused(access, other, "read")).status == 401
    assert {type(one) for one in told} == {SignInFailed}
    first = told[0]
    assert isinstance(first, SignInFailed)
    assert (first.caller.address, first.kind) == ("10.0.0.7", "api_token")


async def test_scopes_narrow_what_a_token_is_good_for(access: WebAccess) -> None:
    search = bearer(scope="openid dicomweb.search")
    await access(with_token(search), route_of("search"))
    assert (await refused(access, with_token(search), "read")).code == "NOT_IN_SCOPE"
    await access(with_token(bearer(scope="openid profile")), route_of("read"))


async def test_tokens_where_there_is_no_issuer(tmp_path: Path) -> None:
    error = await refused(access_of(tmp_path), with_token(bearer()), "read")
    assert (error.status, error.code) == (401, "TOKEN_REFUSED")


# -- API tokens ---------------------------------------------------------------------------


async def one_api_token(
    folder: Path, policy: Policy | None = None, **changes: Any
) -> tuple[str, ApiTokenVerifier]:
    """A token, and what verifies it."""
    arguments = {"roles": ("Viewer",)} | changes
    text, token = new_token(
        "viewer",
        policy=policy or Policy(),
        created_by="somebody",
        expires_at=None,
        now=time.time(),
        **arguments,
    )
    return text, ApiTokenVerifier(KnownTokens(token))


class KnownTokens:
    """A store of tokens in memory."""

    def __init__(self, *tokens: ApiToken) -> None:
        self.tokens = {one.token_id: one for one in tokens}
        self.fault: Exception | None = None

    async def find(self, token_id: str) -> ApiToken | None:
        if self.fault is not None:
            raise self.fault
        return self.tokens.get(token_id)

    async def all(self) -> list[ApiToken]:
        return list(self.tokens.values())

    async def add(self, token: ApiToken) -> bool:
        self.tokens[token.token_id] = token
        return True

    async def revoke(self, token_id: str, now: float) -> bool:
        self.tokens[token_id] = replace(self.tokens[token_id], revoked_at=now)
        return True

    async def remove(self, token_id: str) -> bool:
        return self.tokens.pop(token_id, None) is not None

    async def note_use(self, token_id: str, now: float) -> None:
        pass


async def test_an_api_token_has_the_permissions_of_its_roles(tmp_path: Path) -> None:
    text, tokens = await one_api_token(tmp_path)
    access = WebAccess(control(tmp_path), heard()[0], tokens)
    request = with_token(f"Bearer {text}")
    await access(request, route_of("read"))
    assert caller_of(request).user == "token viewer"
    assert (await refused(access, request, "write")).code == "NOT_ALLOWED"


async def test_an_api_token_is_its_user_for_as_long_as_that_is_active(tmp_path: Path) -> None:
    carol = User(name="carol", roles=("Viewer",))
    policy = Policy(users=(carol,))
    text, tokens = await one_api_token(tmp_path, policy, roles=(), user="carol")
    access = WebAccess(control(tmp_path, users(carol)), heard()[0], tokens)
    request = with_token(f"Bearer {text}")
    await access(request, route_of("read"))
    assert caller_of(request).user == "carol"
    gone = WebAccess(control(tmp_path, users(replace(carol, active=False))), heard()[0], tokens)
    assert (await refused(gone, request, "read")).code == "TOKEN_REFUSED"


async def test_scopes_narrow_what_an_api_token_is_good_for(tmp_path: Path) -> None:
    text, tokens = await one_api_token(tmp_path, scopes=("dicomweb.search",))
    access = WebAccess(control(tmp_path), heard()[0], tokens)
    await access(with_token(f"Bearer {text}"), route_of("search"))
    error = await refused(access, with_token(f"Bearer {text}"), "read")
    assert (error.status, error.code) == (403, "NOT_IN_SCOPE")


async def test_tokens_that_cannot_be_looked_up_are_no_failure_of_their_holder(
    tmp_path: Path,
) -> None:
    text, _ = await one_api_token(tmp_path)
    store = KnownTokens()
    store.fault = StorageError("the disk is gone")
    notices, told = heard()
    access = WebAccess(control(tmp_path), notices, ApiTokenVerifier(store))
    error = await refused(access, with_token(f"Bearer {text}"), "read")
    assert (error.status, error.code) == (503, "UNAVAILABLE")
    assert not told


# -- WebSockets, and what browsers add by themselves ----------------------------------------


def as_websocket(request: Request) -> Request:
    request._scope["isocenter.upgrade"] = object()
    return request


async def test_a_websocket_is_for_pages_of_ours(tmp_path: Path) -> None:
    access = access_of(tmp_path)
    for own in (request_of(), request_of(origin="http://localhost:8080")):
        await access(as_websocket(own), route_of("read"))
    for other in (
        request_of(origin="http://evil.example"),
        request_of(origin="null"),
        request_of(sec_fetch_site="cross-site"),
    ):
        error = await refused(access, as_websocket(other), "read")
        assert (error.status, error.code) == (403, "OTHER_ORIGIN")


async def test_what_a_browser_does_with_a_certificate_must_be_a_page_of_ours(
    tmp_path: Path,
) -> None:
    access = access_of(tmp_path)
    more: dict[str, Any] = {
        "client": "10.0.0.7",
        "host": "archive.example",
        "scheme": "https",
        "identity": identity_of("VIEWER"),
    }
    await access(request_of("POST", origin="https://archive.example", **more), ROUTE)
    await access(request_of("GET", origin="https://evil.example", **more), ROUTE)
    error = await refused(access, request_of("POST", origin="https://evil.example", **more))
    assert error.code == "OTHER_ORIGIN"
    socket = as_websocket(request_of("GET", origin="https://evil.example", **more))
    assert (await refused(access, socket, "read")).code == "OTHER_ORIGIN"


async def test_who_is_allowed_still(tmp_path: Path) -> None:
    carol = User(name="carol", roles=("Viewer",))
    text, tokens = await one_api_token(tmp_path)
    access = WebAccess(control(tmp_path, users(carol)), heard()[0], tokens)
    request = with_token(f"Bearer {text}")
    assert await access.is_allowed_still(request), "nobody is known yet"
    await access(request, route_of("read"))
    assert await access.is_allowed_still(request)
    store = tokens._tokens
    assert isinstance(store, KnownTokens)
    token_id = request.caller.token_id
    store.fault = StorageError("the disk is gone")
    assert await access.is_allowed_still(request), "nobody knows better"
    store.fault = None
    await store.revoke(token_id, 1.0)
    assert not await access.is_allowed_still(request)
    for user, ends_at, is_allowed in (
        ("carol", None, True),
        ("nobody", None, False),
        ("carol", time.time() - 1, False),
        ("", time.time() + 60, True),
    ):
        request.caller = Principal(permissions={}, user=user, ends_at=ends_at)
        assert await access.is_allowed_still(request) is is_allowed


@pytest.mark.parametrize(
    ("enforcement", "some", "active", "expected"),
    [
        (Enforcement.AUTO, [], True, ALL_PERMISSIONS),
        (Enforcement.ALWAYS, [], True, None),
        (Enforcement.NEVER, ["WS1"], True, ALL_PERMISSIONS),
        (Enforcement.AUTO, ["WS1"], True, parse_permission("study:write")),
        # Who is for somebody that was deactivated is nobody.
        (Enforcement.AUTO, ["WS1"], False, None),
    ],
)
async def test_a_certificate_is_worth_what_the_policy_that_is_enforced_says(
    tmp_path: Path, enforcement: Enforcement, some: list[str], active: bool, expected: Any
) -> None:
    user = User(name="alice", roles=("Writer",), active=active)
    policy = Policy(
        entities=tuple(ApplicationEntity(ae_title=one, user="alice", roles=()) for one in some),
        users=(user,),
        roles={"Writer": parse_permission("study:write")},
    )
    rules = control(tmp_path, lambda _: policy)
    rules.enforcement = enforcement
    access = WebAccess(rules, heard()[0])
    request = request_of("POST", scheme="https", identity=identity_of("WS1"))
    if expected is None:
        assert (await refused(access, request)).code == "NOT_ALLOWED"
    else:
        await access(request, ROUTE)
        assert request.caller.permissions == expected
        assert request.caller.roles == frozenset({"Writer"} if expected != ALL_PERMISSIONS else ())


@pytest.mark.parametrize("enforcement", [Enforcement.AUTO, Enforcement.NEVER])
@pytest.mark.parametrize("active", [True, False])
async def test_a_certificate_belongs_to_its_project_whatever_is_enforced(
    tmp_path: Path, enforcement: Enforcement, active: bool
) -> None:
    role = {"Research": parse_permission("study:read")}
    other = ApplicationEntity(ae_title="OTHER", roles=("Research",), active=active)
    own = CertificateRule(name="WS1")
    policy = Policy(entities=(replace(other, certificates=(own,)),), roles=role)
    rules = control(tmp_path, lambda _: policy)
    rules.enforcement = enforcement
    recipients = Recipients([Project(name="trial", roles=("Research",))])
    access = WebAccess(rules, heard()[0], recipients=recipients)
    request = request_of("GET", scheme="https", identity=identity_of("WS1"))
    error = await refused(access, request, "read")
    if enforcement is Enforcement.AUTO and not active:
        assert "nobody with it" in str(error)
        return
    assert "de-identified objects only" in str(error)
    assert request.caller.project == "trial"
