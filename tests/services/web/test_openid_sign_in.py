"""Sign-in at a real OpenID Connect provider: who gets in, as whom, and how they sign out."""

from __future__ import annotations

import html
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trio

from isocenter.services.archive.deidentification.project import Project
from isocenter.services.security.access.failed_sign_ins import SignInFailed
from isocenter.services.security.access.openid_provider import OpenIdProvider, OpenIdRules
from isocenter.services.security.access.recipients import Recipients
from isocenter.services.security.access.sessions import SignedIn, SignedOut
from services.archive_support import STUDY, store
from services.security.access.test_issuer import Provider, certificates, running
from services.web.signed_in import ALICE, Site, opened

__all__ = ["certificates"]  # a fixture

KNOWN = replace(
    ALICE, name="carol", subjects=("carol-sub",), password_hash="", roles=("Radiologist",)
)
OFF = replace(KNOWN, name="dave", subjects=("dave-sub",), active=False)


@pytest.fixture(scope="module")
def idp(certificates: Path) -> Iterator[Provider]:
    with running(certificates) as provider:
        yield provider


def _secret_beside(file: Path) -> Path:
    secret = file.with_name("client-secret")
    secret.write_text("of this client\n")
    return secret


def rules_of(idp: Provider, **changes: Any) -> OpenIdRules:
    values: dict[str, Any] = {
        "issuer": idp.url,
        "client_id": "archive",
        "ca": idp.ca,
        "client_secret_file": _secret_beside(idp.ca),
        "roles": {"radiology": ("Viewer",), "gone": ("NoSuchRole",)},
        "algorithms": ("RS256",),
        "label": "<Hospital>",
    }
    return OpenIdRules(**{**values, **changes})


@pytest.fixture
async def site(tmp_path: Path, idp: Provider) -> AsyncIterator[Site]:
    provider = OpenIdProvider(rules_of(idp))
    async with opened(tmp_path, more=(KNOWN, OFF), provider=provider) as found:
        await store(found.parts.archive, 1)
        yield found


def at_provider(idp: Provider, address: str, subject: str, claims: dict[str, Any] | None) -> str:
    """What somebody does there: the address that the browser is sent back to."""
    trust = ssl.create_default_context(cafile=idp.ca)
    with httpx.Client(verify=trust, trust_env=False) as client:
        if claims is not None:
            client.put(f"{idp.url}/users/{subject}", json=claims).raise_for_status()
        return client.post(address, data={"sub": subject}).headers["location"]


def cookies_in(answer: httpx.Response) -> dict[str, str]:
    found = {}
    for one in answer.headers.get_list("set-cookie"):
        name, _, value = one.partition(";")[0].partition("=")
        found[name] = value
        assert "HttpOnly" in one
        assert "Secure" in one
    return found


async def sent(site: Site, goes_to: str = "/") -> tuple[str, dict[str, str]]:
    """Where a browser is sent, and the cookie that it keeps meanwhile."""
    answer = await site.client.get("/sign-in/oidc", params={"next": goes_to})
    assert answer.status_code == 303, answer.text
    ((name, value),) = cookies_in(answer).items()
    return answer.headers["location"], {"cookie": f"{name}={value}"}


async def back(
    site: Site,
    idp: Provider,
    subject: str,
    claims: dict[str, Any] | None = None,
    goes_to: str = "/",
) -> httpx.Response:
    address, cookie = await sent(site, goes_to)
    returned = await trio.to_thread.run_sync(at_provider, idp, address, subject, claims)
    parts = urlsplit(returned)
    return await site.client.get(f"{parts.path}?{parts.query}", headers=cookie)


async def signed_in(site: Site, idp: Provider, *of: Any, **more: Any) -> dict[str, str]:
    answer = await back(site, idp, *of, **more)
    assert answer.status_code == 303, answer.text
    return {"cookie": f"__Host-isocenter={cookies_in(answer)['__Host-isocenter']}"}


async def test_a_member_of_a_group_has_its_role(site: Site, idp: Provider) -> None:
    page = (await site.client.get("/sign-in?next=/upload")).text
    assert "Sign in with &lt;Hospital&gt;" in page
    claims = {"groups": ["radiology"], "preferred_username": "erin"}
    cookie = await signed_in(site, idp, "erin-sub", claims)
    page = (await site.client.get("/", headers=cookie)).text
    assert "erin (127.0.0.1)" in page
    assert await site.status(f"/studies/{STUDY}", cookie) == 200
    assert await site.status("/upload", cookie) == 403
    (told,) = [one for one in site.told if isinstance(one, SignedIn)]
    assert told.caller.user == "erin (127.0.0.1)"
    # The role is that of the policy of now.
    site.file.change(lambda policy: replace(policy, roles={"Viewer": {}}))
    site.access.refresh()
    assert await site.status(f"/studies/{STUDY}", cookie) == 403


async def test_a_role_of_a_project_counts_also_where_the_policy_has_it_not(
    tmp_path: Path, idp: Provider
) -> None:
    """Else its members would be given originals, by their other groups."""
    recipients = Recipients([Project(name="trial", roles=("NoSuchRole",))])
    async with opened(
        tmp_path, provider=OpenIdProvider(rules_of(idp)), recipients=recipients
    ) as site:
        await store(site.parts.archive, 1)
        both = await signed_in(site, idp, "ivan-sub", {"groups": ["radiology", "gone"]})
        assert await site.status(f"/studies/{STUDY}", both) == 403
        one = await signed_in(site, idp, "judy-sub", {"groups": ["radiology"]})
        assert await site.status(f"/studies/{STUDY}", one) == 200


async def test_a_user_of_the_policy_has_what_the_policy_gives(site: Site, idp: Provider) -> None:
    cookie = await signed_in(site, idp, "carol-sub", {"groups": ["radiology"]})
    page = (await site.client.get("/", headers=cookie)).text
    assert "carol" in page
    assert await site.status("/upload", cookie) == 200
    site.file.change(
        lambda policy: replace(
            policy, users=tuple(replace(one, active=False) for one in policy.users)
        )
    )
    site.access.refresh()
    assert await site.status("/upload", cookie) in (303, 401)


@pytest.mark.parametrize(
    ("subject", "claims", "why"),
    [
        ("frank", {"groups": ["other"]}, "oidc.roles"),
        ("grace", {}, "oidc.roles"),
        ("heidi", {"groups": ["gone"]}, "oidc.roles"),
        ("dave-sub", {"groups": ["radiology"]}, "not active"),
    ],
)
async def test_others_do_not_get_in_and_are_told_why(
    subject: str, claims: dict[str, Any] | None, why: str, site: Site, idp: Provider
) -> None:
    answer = await back(site, idp, subject, claims)
    assert answer.status_code == 403
    assert why in answer.text
    assert "__Host-isocenter" not in cookies_in(answer)
    (told,) = [one for one in site.told if isinstance(one, SignInFailed)]
    assert told.kind == "oidc"


@pytest.mark.parametrize(
    ("goes_to", "shown"),
    [
        ("/upload?x=1", "/upload?x=1"),
        ("https://evil.example/", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
async def test_it_leads_back_to_pages_of_ours_only(
    goes_to: str, shown: str, site: Site, idp: Provider
) -> None:
    answer = await back(site, idp, "carol-sub", {}, goes_to)
    assert answer.headers["location"] == shown


async def test_an_answer_that_this_browser_did_not_ask_for_is_refused(
    site: Site, idp: Provider
) -> None:
    """Somebody could be signed in as somebody else by a link (RFC 6749 10.12)."""
    address, cookie = await sent(site)
    returned = urlsplit(await trio.to_thread.run_sync(at_provider, idp, address, "carol-sub", {}))
    path = f"{returned.path}?{returned.query}"
    _, other = await sent(site)
    for headers in ({}, other, {"cookie": "__Host-isocenter-oidc=x"}):
        answer = await site.client.get(path, headers=headers)
        assert answer.status_code == 400
        assert "sign in once more" in answer.text
    for changed in (path + "&iss=https://evil.example", re.sub("code=[^&]*", "code=x", path)):
        assert (await site.client.get(changed, headers=cookie)).status_code == 403
    assert (await site.client.get(path, headers=cookie)).status_code == 303
    # A code is good once.
    assert (await site.client.get(path, headers=cookie)).status_code == 403


async def test_what_the_provider_says_in_place_of_a_code_is_told(site: Site, idp: Provider) -> None:
    address, cookie = await sent(site)
    (state,) = parse_qs(urlsplit(address).query)["state"]
    for query, said in (("error=access_denied", "access_denied"), ("", "no code")):
        answer = await site.client.get(
            f"/sign-in/oidc/callback?state={state}&{query}", headers=cookie
        )
        assert answer.status_code == 403
        assert f"the provider says {said}" in answer.text
    assert (
        "<script>"
        not in (
            await site.client.get(
                f"/sign-in/oidc/callback?state={state}&error=%3Cscript%3E", headers=cookie
            )
        ).text
    )


async def test_who_fails_often_has_to_wait(site: Site, idp: Provider) -> None:
    address, cookie = await sent(site)
    (state,) = parse_qs(urlsplit(address).query)["state"]
    path = f"/sign-in/oidc/callback?state={state}&code=wrong"
    statuses = [(await site.client.get(path, headers=cookie)).status_code for _ in range(11)]
    assert statuses == [403] * 10 + [429]


async def test_whoever_signs_out_is_led_to_the_provider(site: Site, idp: Provider) -> None:
    cookie = await signed_in(site, idp, "carol-sub", {})
    answer = await site.client.post("/sign-out", headers={**cookie, "origin": site.root})
    assert answer.status_code == 200
    (address,) = re.findall(r'content="0; url=([^"]*)"', answer.text)
    address = html.unescape(address)
    assert address.startswith(f"{idp.url}/oauth2/end_session?")
    said = parse_qs(urlsplit(address).query)
    assert said["post_logout_redirect_uri"][0].endswith("/sign-in")
    assert said["id_token_hint"][0].count(".") == 2
    trust = ssl.create_default_context(cafile=idp.ca)
    async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=60) as client:
        assert (await client.get(address)).status_code == 200
    assert await site.status("/upload", cookie) in (303, 401)
    assert SignedOut in map(type, site.told)
    # Who came with a passcode is led nowhere.
    own = await site.cookie()
    answer = await site.client.post("/sign-out", headers={**own, "origin": site.root})
    assert answer.status_code == 303


async def test_a_provider_that_is_down_is_told(tmp_path: Path, idp: Provider) -> None:
    down = OpenIdProvider(rules_of(idp, issuer="https://127.0.0.1:9"))
    async with opened(tmp_path, provider=down) as site:
        answer = await site.client.get("/sign-in/oidc")
        assert answer.status_code == 503
        assert "asked for its metadata" in answer.text
        assert (await site.sign_in()).status_code == 303, "with a passcode it goes on"


async def test_in_the_clear_nobody_signs_in(tmp_path: Path, idp: Provider) -> None:
    async with opened(tmp_path, scheme="http", provider=OpenIdProvider(rules_of(idp))) as site:
        for path in ("/sign-in/oidc", "/sign-in/oidc/callback?state=x&code=y"):
            assert (await site.client.get(path)).status_code == 403
