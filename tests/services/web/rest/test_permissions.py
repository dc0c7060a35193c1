"""Every route of the API and of FHIR, as every role, by session, token and certificate."""

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
from isocenter.services.web.fhir.answers import ROOT as FHIR_ROOT
from isocenter.services.web.principal import PUBLIC, permissions_for, scopes_for
from isocenter.services.workflow.jobs.job import JobKind
from isocenter.services.workflow.jobs.permission import NEEDS_OF
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
    if answer.status_code < 400:
        return answer.status_code, ""
    said = answer.json()
    code = said["code"] if "code" in said else said["issue"][0]["details"]["text"]
    return answer.status_code, code


class _Places(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "1.2.3.4"


def routes_of(site: Site) -> list[Route[Any]]:
    of_fhir = [one for one in site.application_routes if one.path.startswith(FHIR_ROOT)]
    assert len(of_fhir) == 10
    return [route for route in site.rest if route.name not in NOT_ASKED] + of_fhir


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


async def test_a_job_needs_of_its_asker_what_the_route_needs_by_which_it_is_asked(
    site: Site,
) -> None:
    routes = {
        "RetrieveStudies": JobKind.RETRIEVE,
        "SendStudies": JobKind.SEND,
        "VerifyStudies": JobKind.VERIFY,
        "ExportStudies": JobKind.EXPORT,
        "QueryByJob": JobKind.QUERY,
        "ImportFiles": JobKind.IMPORT,
        "CompressStudies": JobKind.COMPRESS,
        "PublishStudy": JobKind.PUBLISH,
        "BeginAnalysis": JobKind.ANALYSE,
        "FetchSharedStudy": JobKind.FETCH,  # or RETRIEVE, by who has it
    }
    assert set(routes.values()) == set(NEEDS_OF)
    asked_by = {route.name: permissions_for(route) for route in site.rest if route.name in routes}
    assert "RetrieveStudies" in asked_by
    for name, permissions in asked_by.items():
        assert dict(NEEDS_OF[routes[name]]) == dict(permissions), name
