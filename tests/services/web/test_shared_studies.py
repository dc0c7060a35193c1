"""Links to one study over the web: what they open, to whom, and nothing else."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest

from isocenter.services.notices import AccessDenied
from isocenter.services.security.access.failed_sign_ins import SignInFailed
from isocenter.services.security.access.sessions import SignedIn
from isocenter.services.security.access.share_links import ShareLinkChanged
from isocenter.services.web.study_scope import is_within
from services.archive_support import STUDY, data_set, store, uid
from services.web.signed_in import ALICE, START, Site, opened

DOCTOR = replace(ALICE, name="doctor", roles=("Radiologist",))
OTHER = replace(ALICE, name="other", roles=("Radiologist",))
SYSTEM = replace(ALICE, name="system", roles=("System",))
SECOND = "1.2.7"
DAY = 86_400.0
JSON = {"accept": "application/dicom+json"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path, more=(DOCTOR, OTHER, SYSTEM)) as found:
        await store(found.parts.archive, 1)
        other = data_set(5, study=SECOND, series=f"{SECOND}.1")
        await store(found.parts.archive, 5, other)
        yield found


async def share(site: Site, name: str = "doctor", **fields: str) -> str:
    """The path of a new link."""
    headers = {**await site.cookie(name), "origin": site.root}
    fields = {"days": "7", **fields}
    answer = await site.client.post(f"/studies/{STUDY}/share", data=fields, headers=headers)
    assert answer.status_code == 200, answer.text
    (path,) = re.findall(r"<pre>https?://[^/<]*(/share/isl_\w+)</pre>", answer.text)
    return str(path)


async def open_link(site: Site, path: str, passcode: str = "") -> httpx.Response:
    return await site.client.post(path, data={"passcode": passcode}, headers={"origin": site.root})


async def cookie_of(site: Site, path: str, passcode: str = "") -> dict[str, str]:
    answer = await open_link(site, path, passcode)
    assert (answer.status_code, answer.headers["location"]) == (303, path), answer.text
    said = answer.headers["set-cookie"]
    assert "HttpOnly" in said
    assert "Secure" in said
    return {"cookie": said.partition(";")[0]}


async def test_a_link_opens_one_study_to_look_at(site: Site) -> None:
    path = await share(site, label="Dr. X")
    page = await site.client.get(path)
    assert page.status_code == 200
    # The address is the secret: no other server is told where somebody comes from.  To ourselves it
    # has to be said, or browsers send "Origin: null" with the form.
    assert page.headers["referrer-policy"] == "same-origin"
    for private in ("Bäcker", "P1", STUDY):
        assert private not in page.text
    headers = {**await cookie_of(site, path), **JSON}
    for query in ("/studies", f"/studies?StudyInstanceUID={STUDY}", "/studies?PatientID=P1"):
        found = (await site.client.get(f"/dicomweb{query}", headers=headers)).json()
        assert [one["0020000D"]["Value"] for one in found] == [[STUDY]]
    for query in ("/series", "/instances", f"/studies/{STUDY}/series"):
        assert len((await site.client.get(f"/dicomweb{query}", headers=headers)).json()) == 1
    assert await site.status(f"/dicomweb/studies/{STUDY}/metadata", headers) == 200
    found = await site.client.get(f"/dicomweb/studies?StudyInstanceUID={SECOND}", headers=headers)
    assert found.json() == []
    # It was made to look, not to take away.
    zipped = f"/dicomweb/studies/{STUDY}?accept=application/zip"
    assert await site.status(zipped, headers) == 403
    assert "Download" not in (await site.client.get(path, headers=headers)).text


async def test_what_may_be_downloaded_is(site: Site) -> None:
    path = await share(site, download="1")
    headers = await cookie_of(site, path)
    page = (await site.client.get(path, headers=headers)).text
    (address,) = re.findall(r'href="(/dicomweb/[^"]*zip)"', page)
    answer = await site.client.get(address, headers=headers)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as opened_zip:
        assert [Path(name).stem for name in opened_zip.namelist()] == [uid(1)]
    assert site.exported[-1].actor.startswith("link ")


@pytest.mark.parametrize("way", ["cookie", "bearer"])
async def test_a_link_reaches_nothing_but_its_study(site: Site, way: str) -> None:
    """Every route there is: what is not known to be of this study is refused."""
    path = await share(site, download="1")
    token = path.rpartition("/")[2]
    headers = (
        await cookie_of(site, path) if way == "cookie" else {"authorization": f"Bearer {token}"}
    )
    routes = site.application_routes
    assert len(routes) > 60
    for route in routes:
        if route.needs == "public":
            continue
        for study in (STUDY, SECOND):
            filled = route.path.replace("...}", "}").format(
                **(dict.fromkeys(route.places, "1.2") | {"study": study})
            )
            answer = await site.client.request(
                route.method, filled, headers={**headers, "origin": site.root}
            )
            if not is_within(route, {"study": study}, STUDY):
                assert answer.status_code == 403, f"{route.method} {filled}"
            else:
                assert answer.status_code != 403 or "zip" in filled, f"{route.method} {filled}"
            if study == SECOND and route.path.startswith("/dicomweb/studies/{study}"):
                assert answer.status_code == 403
    assert AccessDenied in map(type, site.told)


async def test_a_passcode_is_asked_for_and_guessing_is_slowed_down(site: Site) -> None:
    path = await share(site, passcode="seven words of it")
    bearer = {"authorization": f"Bearer {path.rpartition('/')[2]}", **JSON}
    assert await site.status("/dicomweb/studies", bearer) == 401
    assert (await open_link(site, path)).status_code == 403
    wrong = await open_link(site, path, "eight words of it")
    assert wrong.status_code == 403
    assert "set-cookie" not in wrong.headers
    assert "the passcode is wrong" in wrong.text
    await cookie_of(site, path, "seven words of it")
    for _ in range(20):
        answer = await open_link(site, path, "x")
    assert answer.status_code == 429
    assert (await open_link(site, path, "seven words of it")).status_code == 429
    assert {one.kind for one in site.told if isinstance(one, SignInFailed)} == {"share_link"}


async def test_links_cannot_be_guessed(site: Site) -> None:
    path = await share(site)
    said = set()
    for wrong in (path[:-1] + "g", path[:-2] + "00", "/share/isl_0badcafe_" + "0" * 64, "/share/x"):
        answer = await site.client.get(wrong)
        assert answer.status_code == 404
        said.add(re.sub(r"[0-9a-f]{16}", "", answer.text))
    await _revoke_all(site)
    answer = await site.client.get(path)
    assert answer.status_code == 404
    said.add(re.sub(r"[0-9a-f]{16}", "", answer.text))
    assert len(said) == 1
    statuses = [(await site.client.get("/share/x")).status_code for _ in range(12)]
    assert statuses[-1] == 429


async def _revoke_all(site: Site, name: str = "doctor") -> None:
    headers = {**await site.cookie(name), "origin": site.root}
    page = (await site.client.get("/shares", headers=headers)).text
    for link_id in re.findall(r'name="link" value="([0-9a-f]{8})"', page):
        answer = await site.client.post("/shares/revoke", data={"link": link_id}, headers=headers)
        assert answer.status_code == 303


async def test_a_link_ends_by_time_and_by_being_revoked(site: Site) -> None:
    path = await share(site, days="1")
    headers = {**await cookie_of(site, path), **JSON}
    assert await site.status("/dicomweb/studies", headers) == 200
    await _revoke_all(site)
    assert await site.status("/dicomweb/studies", headers) == 401
    later = await share(site, days="1")
    bearer = {"authorization": f"Bearer {later.rpartition('/')[2]}", **JSON}
    assert await site.status("/dicomweb/studies", bearer) == 200
    site.now = START + DAY + 1
    assert await site.status("/dicomweb/studies", bearer) == 401
    assert (await site.client.get(later)).status_code == 404


async def test_a_link_is_worth_no_more_than_its_maker(site: Site) -> None:
    path = await share(site)
    bearer = {"authorization": f"Bearer {path.rpartition('/')[2]}", **JSON}
    assert await site.status("/dicomweb/studies", bearer) == 200
    site.file.change(
        lambda policy: replace(
            policy,
            users=tuple(
                replace(one, active=False) if one.name == "doctor" else one for one in policy.users
            ),
        )
    )
    site.access.refresh()
    assert await site.status("/dicomweb/studies", bearer) == 401


async def test_everybody_sees_their_own_links_and_administrators_all(site: Site) -> None:
    path = await share(site, label="for <b>X</b>")
    link_id = path.split("_")[1]
    own = (await site.client.get("/shares", headers=await site.cookie("doctor"))).text
    assert "for &lt;b&gt;X&lt;/b&gt;" in own
    other = {**await site.cookie("other"), "origin": site.root}
    assert link_id not in (await site.client.get("/shares", headers=other)).text
    answer = await site.client.post("/shares/revoke", data={"link": link_id}, headers=other)
    assert answer.status_code == 404
    assert link_id in (await site.client.get("/shares", headers=await site.cookie("system"))).text
    changed = [one for one in site.told if isinstance(one, ShareLinkChanged)]
    assert [(one.is_new, one.caller.user) for one in changed] == [(True, "doctor")]


@pytest.mark.parametrize(
    "fields", [{"days": "0"}, {"days": "999"}, {"days": "soon"}, {"passcode": "short"}]
)
async def test_what_makes_no_link_is_told_on_the_form(site: Site, fields: dict[str, str]) -> None:
    headers = {**await site.cookie("doctor"), "origin": site.root}
    fields = {"days": "7", **fields}
    answer = await site.client.post(f"/studies/{STUDY}/share", data=fields, headers=headers)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert not await site.parts.stores.share_links.all(10)


async def test_opening_is_told_and_counted_and_looking_at_the_link_is_not(site: Site) -> None:
    path = await share(site)
    for _ in range(3):
        await site.client.get(path)
    (link,) = await site.parts.stores.share_links.all(10)
    assert link.uses == 0
    await cookie_of(site, path)
    (link,) = await site.parts.stores.share_links.all(10)
    assert link.uses == 1
    signed = [one.caller.user for one in site.told if isinstance(one, SignedIn)]
    assert signed[-1] == f"link {link.link_id}"


async def test_who_is_signed_in_stays_who_they_are(site: Site) -> None:
    path = await share(site)
    by_link = await cookie_of(site, path)
    own = await site.cookie("doctor")
    both = {"cookie": f"{by_link['cookie']}; {own['cookie']}", **JSON}
    assert len((await site.client.get("/dicomweb/studies", headers=both)).json()) == 2


# -- Viewers of others --------------------------------------------------------------------------


async def test_weasis_gets_the_study_and_a_token_for_it(site: Site) -> None:
    cookie = await site.cookie()  # to look is enough
    assert (
        f"/studies/{STUDY}/weasis"
        in (await site.client.get(f"/studies/{STUDY}", headers=cookie)).text
    )
    answer = await site.client.get(f"/studies/{STUDY}/weasis", headers=cookie)
    address = answer.headers["location"]
    assert address.startswith("weasis://%24dicom%3Ars%20--url%20%22https%3A%2F%2F")
    command = unquote(address.removeprefix("weasis://"))
    found = re.fullmatch(
        r'\$dicom:rs --url "https://[^"]+/dicomweb" -r "studyUID=([0-9.]+)" '
        r'-H "Authorization: Bearer (isl_\w+)"',
        command,
    )
    assert found is not None
    assert found[1] == STUDY
    bearer = {"authorization": f"Bearer {found[2]}", **JSON}
    assert len((await site.client.get("/dicomweb/studies", headers=bearer)).json()) == 1
    assert await site.status(f"/dicomweb/studies/{SECOND}/metadata", bearer) == 403
    site.now = START + 3_601
    assert await site.status("/dicomweb/studies", bearer) == 401
    assert not await site.parts.stores.share_links.all(10)


async def test_volview_gets_the_service_and_a_token_for_the_study(site: Site) -> None:
    cookie = await site.cookie()
    answer = await site.client.get(f"/studies/{STUDY}/volview", headers=cookie)
    address = urlsplit(answer.headers["location"])
    assert address.netloc == "volview.example"
    said = parse_qs(address.query)
    assert said["dicomweb"][0].endswith("/dicomweb")
    bearer = {"authorization": f"Bearer {said['token'][0]}", **JSON}
    found = (await site.client.get("/dicomweb/studies", headers=bearer)).json()
    assert [one["0020000D"]["Value"] for one in found] == [[STUDY]]
