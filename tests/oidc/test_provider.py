"""Sign-in at npm's `oidc-provider`, which insists on PKCE: `tox -e oidc`."""

from __future__ import annotations

import html
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from isocenter.services.security.access.openid_provider import OpenIdProvider, OpenIdRules
from services.archive_support import STUDY, store
from services.web.signed_in import Site, opened

FOLDER = os.environ.get("ISOCENTER_OIDC", "")
PROGRAM = Path(__file__).with_name("provider.mjs")
ROOT = "https://archive.example"

pytestmark = pytest.mark.skipif(not FOLDER, reason="ISOCENTER_OIDC names no folder; tox -e oidc")


@pytest.fixture(scope="module", params=["in-token", "by-user-info"])
def issuer(request: pytest.FixtureRequest) -> Iterator[str]:
    command = ["node", PROGRAM, FOLDER, request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.fixture(params=["archive", "public"])
async def site(tmp_path: Path, issuer: str, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    secret = tmp_path / "secret"
    secret.write_text("of this client")
    rules = OpenIdRules(
        issuer=issuer,
        client_id=request.param,
        client_secret_file=secret if request.param == "archive" else None,
        roles={"radiology": ("Viewer",)},
        algorithms=("RS256",),
    )
    provider = OpenIdProvider(rules)
    async with opened(tmp_path / "site", provider=provider, public_root=ROOT) as found:
        await store(found.parts.archive, 1)
        yield found


def at_provider(address: str, login: str) -> str:
    """What somebody types there; the address that the browser is sent back to."""
    with httpx.Client(trust_env=False) as client:
        answer = client.get(address)
        for _ in range(10):
            if answer.is_redirect:
                target = str(answer.next_request.url) if answer.next_request else ""
                if target.startswith(ROOT):
                    return target
                answer = client.get(target)
                continue
            (action,) = re.findall(r'action="([^"]+)"', answer.text)[:1]
            fields = dict(re.findall(r'name="(\w+)" value="(\w+)"', answer.text))
            fields |= {"login": login, "password": "any"} if 'name="login"' in answer.text else {}
            answer = client.post(httpx.URL(address).join(html.unescape(action)), data=fields)
    raise AssertionError("it does not lead back")


def cookie_in(answer: httpx.Response, name: str) -> str:
    for one in answer.headers.get_list("set-cookie"):
        if one.startswith(f"{name}="):
            return str(one.partition(";")[0])
    raise AssertionError(f"no {name}")


async def signed_in(site: Site, login: str) -> httpx.Response:
    answer = await site.client.get("/sign-in/oidc?next=/status")
    kept = {"cookie": cookie_in(answer, "__Host-isocenter-oidc")}
    parts = urlsplit(at_provider(answer.headers["location"], login))
    return await site.client.get(f"{parts.path}?{parts.query}", headers=kept)


async def test_a_member_of_a_group_gets_in_and_out(site: Site, issuer: str) -> None:
    answer = await signed_in(site, "erin+radiology+others")
    assert (answer.status_code, answer.headers["location"]) == (303, "/status"), answer.text
    cookie = {"cookie": cookie_in(answer, "__Host-isocenter")}
    page = await site.client.get(f"/studies/{STUDY}", headers=cookie)
    assert page.status_code == 200
    assert "erin (127.0.0.1)" in page.text
    form: dict[str, Any] = {**cookie, "origin": site.root}
    (address,) = re.findall(
        r'content="0; url=([^"]*)"', (await site.client.post("/sign-out", headers=form)).text
    )
    address = html.unescape(address)
    assert address.startswith(issuer)
    assert parse_qs(urlsplit(address).query)["id_token_hint"]
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        there = await client.get(address)
        if "post_logout_redirect_uri=" in address and "client_id=archive" in address:
            assert there.status_code == 200, there.text
    assert await site.status(f"/studies/{STUDY}", cookie) in (303, 401)


async def test_others_do_not_get_in(site: Site) -> None:
    answer = await signed_in(site, "frank+others")
    assert answer.status_code == 403
    assert "oidc.roles" in answer.text
