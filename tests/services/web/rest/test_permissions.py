"""Every route of the API, as every role, by session, token and certificate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.net.http.routing import Route
from isocenter.services.security.access.permissions import ROLES, without
from isocenter.services.security.access.policy import ApplicationEntity, CertificateRule
from isocenter.services.security.access.scopes import SCOPES
from isocenter.services.web.principal import PUBLIC, permissions_for, scopes_for
from services.web.signed_in import ALICE, Site, opened

NOBODY = "Nobody"
WHO = [*ROLES, NOBODY]
#: Ends the session that asks.
NOT_ASKED = frozenset({"SignOut"})


def roles_of(role: str) -> tuple[str, ...]:
    return () if role == NOBODY else (role,)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    users = [replace(ALICE, name=f"a-{role.lower()}", roles=roles_of(role)) for role in WHO]
    async with opened(tmp_path, more=users) as found:
        yield found


async def asked(site: Site, route: Route[Any], headers: dict[str, str]) -> tuple[int, str]:
    """Status and code of a request that says nothing; it changes nothing, therefore."""
    filled = route.path.replace("...}", "}").format_map(_Places())
    answer = await site.client.request(route.method, filled, headers=headers)
    code = answer.json()["code"] if answer.status_code >= 400 else ""
    return answer.status_code, code


class _Places(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "1.2.3.4"


def routes_of(site: Site) -> list[Route[Any]]:
    return [route for route in site.rest if route.name not in NOT_ASKED]


@pytest.mark.parametrize("role", WHO)
@pytest.mark.parametrize("kind", ["session", "token", "certificate"])
async def test_a_role_reaches_what_the_policy_gives_it(site: Site, role: str, kind: str) -> None:
    user = f"a-{role.lower()}"
    if kind == "session":
        headers = {**await site.cookie(user), "origin": site.root}
    elif kind == "token":
        headers = await site.token(user=user)
    else:
        entity = ApplicationEntity(
            ae_title="CALLER", certificates=(CertificateRule(name="caller"),), roles=roles_of(role)
        )
        site.file.change(lambda policy: replace(policy, entities=(entity,)))
        site.access.refresh()
        headers = {"x-certificate": "caller"}
    for route in routes_of(site):
        status, code = await asked(site, route, headers)
        lacks = bool(without(permissions_for(route), ROLES.get(role, {})))
        assert (status == 403) is lacks, f"{route.method} {route.path}: {status} {code}"
        assert not lacks or code == "NOT_ALLOWED"


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_token_reaches_what_its_scopes_give_it(site: Site, scope: str) -> None:
    headers = await site.token(roles=("System",), scopes=(scope,))
    for route in routes_of(site):
        status, code = await asked(site, route, headers)
        good = scopes_for(route)
        assert (code == "NOT_IN_SCOPE") is bool(good and scope not in good), route.path
        assert (status == 403) is (code == "NOT_IN_SCOPE"), f"{route.path}: {status} {code}"


async def test_who_is_not_known_reaches_what_is_for_everybody(site: Site) -> None:
    for route in routes_of(site):
        status, _ = await asked(site, route, {})
        assert (status == 401) is (route.needs != PUBLIC), f"{route.method} {route.path}: {status}"


@pytest.mark.parametrize("kind", ["session", "certificate"])
@pytest.mark.parametrize(
    "said",
    [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}],
)
async def test_pages_of_others_change_nothing(site: Site, kind: str, said: dict[str, str]) -> None:
    """What a browser shows by itself is worth nothing in the hands of another page."""
    headers = await site.cookie("a-system") if kind == "session" else {"x-certificate": "caller"}
    for route in routes_of(site):
        if route.method in ("GET", "HEAD") or route.needs == PUBLIC:
            continue
        status, code = await asked(site, route, {**headers, **said})
        assert (status, code) == (403, "OTHER_ORIGIN"), f"{route.method} {route.path}"
        if kind == "session":
            # A browser says where it comes from; who does not is none.
            assert (await asked(site, route, headers))[1] == "OTHER_ORIGIN", route.path
