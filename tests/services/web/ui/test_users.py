"""Users, their sessions, and API tokens on the pages."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import segno
from pyotp import TOTP

from isocenter.services.security.access.passwords import verify_passcode
from isocenter.services.security.access.permissions import Action, Resource
from isocenter.services.security.access.policy import User
from isocenter.services.security.access.policy_changes import PolicyChanged
from isocenter.services.security.access.token_changes import TokenChanged
from isocenter.services.web.ui.qr_codes import qr_code
from services.web.signed_in import ALICE, Site, opened
from services.web.ui.people import post, text_of

ANOTHER = "another horse <b> battery"


def user(site: Site, name: str) -> User:
    found = site.file.read().user(name)
    assert found is not None
    return found


def told(site: Site) -> list[str]:
    return [one.what for one in site.told if isinstance(one, PolicyChanged)]


# -- Users --------------------------------------------------------------------------------


async def test_a_user_is_added_signs_in_and_is_removed(site: Site) -> None:
    cookie = await site.cookie("a-administrator")
    name = "eve/<b> ü"
    fields = {"name": name, "passcode": ANOTHER, "role": "Viewer"}
    assert (await post(site, cookie, "/users", **fields)).status_code == 303
    page = await text_of(site, cookie, "/users")
    assert "eve/&lt;b&gt; ü" in page
    (path,) = re.findall(r'href="(/users/eve[^"]+)"', page)
    assert "eve/&lt;b&gt; ü" in await text_of(site, cookie, path)
    assert ANOTHER not in page
    assert (await site.sign_in(name, passcode=ANOTHER)).status_code == 303
    assert (await post(site, cookie, f"{path}/remove")).headers["location"] == "/users"
    assert site.file.read().user(name) is None
    assert told(site) == [f"user {name} added, with roles Viewer", f"user {name} removed"]
    assert (await site.client.get(path, headers=cookie)).status_code == 404


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "", "passcode": ANOTHER}, "user name (1 to 64 characters)"),
        ({"name": "a-viewer", "passcode": ANOTHER}, "is there already"),
        ({"name": "eve", "passcode": "short"}, "a passcode has"),
        ({"name": "eve", "passcode": ANOTHER, "role": "King"}, "no role"),
    ],
)
async def test_what_can_be_no_user_is_told(site: Site, fields: dict[str, str], said: str) -> None:
    before = site.file.read()
    answer = await post(site, await site.cookie("a-administrator"), "/users", **fields)
    assert answer.status_code == 400
    assert said in answer.text
    assert ANOTHER not in answer.text
    assert site.file.read() == before


async def test_roles_are_replaced(site: Site) -> None:
    cookie = await site.cookie("a-administrator")
    body = "role=Viewer&role=Technologist"
    headers = {
        **cookie, "origin": site.root, "content-type": "application/x-www-form-urlencoded",
    }  # fmt: skip
    answer = await site.client.post("/users/a-nobody/roles", content=body, headers=headers)
    assert answer.headers["location"] == "/users/a-nobody"
    assert user(site, "a-nobody").roles == ("Viewer", "Technologist")
    assert (await post(site, cookie, "/users/a-nobody/roles")).status_code == 303
    assert user(site, "a-nobody").roles == ()


async def test_another_passcode_ends_the_sessions_of_before(site: Site) -> None:
    cookie, viewer = await site.cookie("a-administrator"), await site.cookie("a-viewer")
    assert await site.status("/", viewer) == 200
    answer = await post(site, cookie, "/users/a-viewer/passcode", passcode=ANOTHER)
    assert answer.status_code == 303
    assert verify_passcode(user(site, "a-viewer").password_hash, ANOTHER.encode())
    assert await site.status("/status", viewer) == 303
    assert (await post(site, cookie, "/users/a-viewer/passcode", passcode="no")).status_code == 400


async def test_a_secret_of_one_time_codes_is_shown_once(site: Site) -> None:
    cookie = await site.cookie("a-administrator")
    answer = await post(site, cookie, "/users/a-viewer/codes")
    secret = user(site, "a-viewer").totp_secret
    assert secret
    assert secret in answer.text
    assert f"otpauth://totp/ARCHIVE:a-viewer?secret={secret}&amp;issuer=ARCHIVE" in answer.text
    uri = f"otpauth://totp/ARCHIVE:a-viewer?secret={secret}&issuer=ARCHIVE"
    assert str(qr_code(uri)) in answer.text
    assert 'role="img" aria-label="QR code' in answer.text
    assert (await site.sign_in("a-viewer")).status_code != 303
    code = TOTP(secret).at(int(site.now))
    assert (await site.sign_in("a-viewer", code=code)).status_code == 303
    assert secret not in await text_of(site, cookie, "/users/a-viewer")
    assert (await post(site, cookie, "/users/a-viewer/codes", off="yes")).status_code == 303
    assert not user(site, "a-viewer").totp_secret


async def test_without_what_makes_pictures_the_address_is_there(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    cookie = await site.cookie("a-administrator")
    answer = await post(site, cookie, "/users/a-viewer/codes")
    assert "otpauth://totp/ARCHIVE:a-viewer" in answer.text
    assert "<svg" not in answer.text


def test_a_qr_code_is_a_picture_and_nothing_else() -> None:
    """Every module of it is drawn, with the margin; nothing in it has a style or a script."""
    text = "otpauth://totp/A:b?secret=C&issuer=<script>"
    picture = ET.fromstring(str(qr_code(text)))
    ground, modules = list(picture)
    assert [one.tag for one in (picture, ground, modules)] == ["svg", "path", "path"]
    names = {name for one in picture.iter() for name in one.attrib}
    assert names <= {"viewBox", "class", "fill", "stroke", "d"}
    drawn = sum(int(length) for length in re.findall(r"h(\d+)", modules.attrib["d"]))
    matrix = segno.make(text, error="m", micro=False).matrix
    assert drawn == sum(map(sum, matrix))
    assert picture.attrib["viewBox"] == f"0 0 {len(matrix) + 8} {len(matrix) + 8}"


async def test_who_is_deactivated_is_out_at_once(site: Site) -> None:
    cookie, viewer = await site.cookie("a-administrator"), await site.cookie("a-viewer")
    assert (await post(site, cookie, "/users/a-viewer/active", active="no")).status_code == 303
    assert await site.status("/status", viewer) == 303
    assert "not active" in await text_of(site, cookie, "/users")
    assert (await post(site, cookie, "/users/a-viewer/active", active="yes")).status_code == 303
    assert user(site, "a-viewer").active


async def test_a_session_is_seen_and_ended(site: Site) -> None:
    cookie, viewer = await site.cookie("a-administrator"), await site.cookie("a-viewer")
    page = await text_of(site, cookie, "/users/a-viewer")
    (path,) = re.findall(r'action="(/sessions/[0-9a-f]+/end)"', page)
    assert (await post(site, cookie, path)).status_code == 303
    assert await site.status("/status", viewer) == 303
    assert path not in await text_of(site, cookie, "/users")
    assert (await post(site, cookie, path)).status_code == 404
    assert told(site) == ["a session of user a-viewer from 127.0.0.1 ended"]


@pytest.mark.parametrize("action", ["roles", "active", "remove"])
async def test_nobody_locks_themselves_out(site: Site, action: str) -> None:
    cookie = await site.cookie("a-administrator")
    before = site.file.read()
    answer = await post(site, cookie, f"/users/a-administrator/{action}")
    assert answer.status_code == 400
    assert "somebody else has to do that to you" in answer.text
    assert site.file.read() == before
    assert f"/users/a-administrator/{action}" not in await text_of(
        site, cookie, "/users/a-administrator"
    )


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/users", {"name": "eve", "passcode": ANOTHER, "role": "Administrator"}),
        ("/users/a-nobody/roles", {"role": "Administrator"}),
        ("/users/a-only-change_users/roles", {"role": "Administrator"}),
        ("/users/a-administrator/passcode", {"passcode": ANOTHER}),
        ("/users/a-administrator/codes", {}),
        ("/users/a-administrator/active", {"active": "no"}),
        ("/users/a-administrator/remove", {}),
        ("/tokens", {"name": "root", "role": "Administrator", "days": "1"}),
        ("/tokens", {"name": "root", "user": "a-administrator", "days": "1"}),
    ],
)
async def test_who_changes_users_gives_nobody_more_than_they_have(
    site: Site, path: str, fields: dict[str, str]
) -> None:
    before = site.file.read()
    answer = await post(site, await site.cookie("a-only-change_users"), path, **fields)
    assert answer.status_code == 400
    assert "you may give nobody" in answer.text or "somebody else" in answer.text
    assert site.file.read() == before
    assert not await site.parts.stores.tokens.all()


async def test_who_may_change_roles_gives_what_they_like(tmp_path: Path) -> None:
    full = Action.READ | Action.WRITE
    roles = {"Office": {Resource.USER: full, Resource.ROLE: full}}
    office = replace(ALICE, name="office", roles=("Office",))
    async with opened(tmp_path, more=(office,), roles=roles) as site:
        fields = {"name": "eve", "passcode": ANOTHER, "role": "Administrator"}
        assert (
            await post(site, await site.cookie("office"), "/users", **fields)
        ).status_code == 303


# -- API tokens ---------------------------------------------------------------------------


async def test_a_token_is_shown_once_works_and_is_revoked(site: Site) -> None:
    cookie = await site.cookie("a-administrator")
    fields = {"name": "load<er>", "role": "Viewer", "scope": "dicomweb.search", "days": "2"}
    answer = await post(site, cookie, "/tokens", **fields)
    assert answer.headers["cache-control"] == "private, no-store"
    (text,) = re.findall(r"iso_[0-9a-f]{8}_[0-9a-f]{64}", answer.text)
    (token,) = await site.parts.stores.tokens.all()
    assert (token.name, token.roles, token.scopes) == (
        "load<er>",
        ("Viewer",),
        ("dicomweb.search",),
    )
    assert token.created_by == "a-administrator"
    assert token.expires_at == site.now + 2 * 86_400
    page = await text_of(site, cookie, "/tokens")
    assert text not in page
    assert "load&lt;er&gt;" in page
    assert (await post(site, cookie, f"/tokens/{token.token_id}/revoke")).status_code == 303
    assert "revoked" in await text_of(site, cookie, "/tokens")
    assert (await post(site, cookie, f"/tokens/{token.token_id}/revoke")).status_code == 404
    changes = [one for one in site.told if isinstance(one, TokenChanged)]
    assert [one.is_new for one in changes] == [True, False]
    assert {one.caller.user for one in changes} == {"a-administrator"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "", "role": "Viewer"}, "1 to 64 characters"),
        ({"name": "x"}, "name either"),
        ({"name": "x", "role": "Viewer", "user": "alice"}, "name either"),
        ({"name": "x", "user": "nobody"}, "no user"),
        ({"name": "x", "role": "Viewer", "scope": "all"}, "no scope"),
        ({"name": "x", "role": "Viewer", "days": "0"}, "for how many days"),
        ({"name": "x", "role": "Viewer", "days": "soon"}, "for how many days"),
    ],
)
async def test_what_can_be_no_token_is_told(site: Site, fields: dict[str, str], said: str) -> None:
    cookie = await site.cookie("a-administrator")
    answer = await post(site, cookie, "/tokens", **{"days": "1", **fields})
    assert answer.status_code == 400
    assert said in answer.text
    assert not await site.parts.stores.tokens.all()
